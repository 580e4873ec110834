"""Rows of tensors that move between processes, with gradients that are summed in the order of ranks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

_ALL_TO_ALL = torch.ops._c10d_functional.all_to_all_single
_WAIT = torch.ops._c10d_functional.wait_tensor
"""The functional collectives on plain tensors, which autograd passes on before they have arrived."""


class Moving(NamedTuple):
    """Rows on their way between processes, while others compute."""

    outgoing: Tensor
    incoming: Tensor
    """Not to be read before it has arrived."""
    sizes: list[int]
    """How many rows go to each rank."""
    counts: list[int]
    """How many come from each."""
    group: dist.ProcessGroup

    def arrived(self) -> Tensor:
        """The rows, [sum of counts, ...], in the order of ranks. Its backward pass begins to return the gradients."""
        result: Tensor = _Arrived.apply(*self)  # type: ignore[no-untyped-call]
        return result


def moving(x: Tensor, rows: Sequence[Tensor], counts: Sequence[int], group: dist.ProcessGroup) -> Moving:
    """Begins to send rows of x [rows, ...] to each rank, int64 each, which send this one `counts` each.

    The rows for one rank are distinct.
    """
    sizes, counts = [len(each) for each in rows], list(counts)
    outgoing: Tensor = _Leaving.apply(x, list(rows))  # type: ignore[no-untyped-call]
    return Moving(outgoing, _started(outgoing.detach(), sizes, counts, group), sizes, counts, group)


def moved(x: Tensor, rows: Sequence[Tensor], counts: Sequence[int], group: dist.ProcessGroup) -> Tensor:
    """The rows that `moving` moves, when they have arrived."""
    return moving(x, rows, counts, group).arrived()


class _Leaving(torch.autograd.Function):
    """The rows to send. Their gradients, summed in the order of ranks, are on their way since `_Arrived`.

    Autograd runs what was recorded last first, so what was computed between both runs meanwhile.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: list[Tensor]) -> Tensor:
        ctx.rows, ctx.shape = rows, x.shape
        return x[torch.cat(rows)]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        returned = _waited(grad)
        total = returned.new_zeros(ctx.shape)
        for at, each in zip(ctx.rows, torch.split(returned, [len(at) for at in ctx.rows]), strict=True):
            total.index_add_(0, at, each)
        return total, None


class _Arrived(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, outgoing: Tensor, incoming: Tensor, sizes: list[int], counts: list[int], group: dist.ProcessGroup
    ) -> Tensor:
        ctx.sizes, ctx.counts, ctx.group = sizes, counts, group
        return _waited(incoming).view_as(incoming)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _started(grad, ctx.counts, ctx.sizes, ctx.group), None, None, None, None


def _started(x: Tensor, sizes: list[int], counts: list[int], group: dist.ProcessGroup) -> Tensor:
    """All ranks at once: `sizes` rows to each, `counts` rows from each, under way until `_waited`."""
    result: Tensor = _ALL_TO_ALL(x.contiguous(), counts, sizes, group.group_name)
    return result


def _waited(x: Tensor) -> Tensor:
    result: Tensor = _WAIT(x)
    return result


def _exchanged(x: Tensor, sizes: list[int], counts: list[int], group: dist.ProcessGroup) -> Tensor:
    return _waited(_started(x, sizes, counts, group))


def _everybodys(x: Tensor, counts: list[int], group: dist.ProcessGroup) -> Tensor:
    """The rows of all ranks, `counts` each."""
    return _exchanged(torch.cat([x] * len(counts)), [len(x)] * len(counts), counts, group)


def summed(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """x, which all ranks have whole: its gradient is the sum over ranks, in their order."""
    result: Tensor = _Summed.apply(x, group)  # type: ignore[no-untyped-call]
    return result


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        every = _everybodys(grad[None], [1] * dist.get_world_size(ctx.group), ctx.group)
        return every.sum(dim=0), None


def gathered(x: Tensor, counts: Sequence[int], group: dist.ProcessGroup) -> Tensor:
    """The rows of all ranks, `counts` each, in their order: [sum of counts, ...]. Ranks take their own gradients."""
    result: Tensor = _EveryRow.apply(x, list(counts), group)  # type: ignore[no-untyped-call]
    return result


class _EveryRow(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.rank, ctx.counts = dist.get_rank(group), counts
        return _everybodys(x, counts, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return torch.split(grad, ctx.counts)[ctx.rank], None, None


def taken(x: Tensor, rows: Sequence[Tensor], group: dist.ProcessGroup) -> Tensor:
    """This rank's rows of x, which all ranks have whole; the gradient is that of all ranks' rows."""
    result: Tensor = _Taken.apply(x, list(rows), group)  # type: ignore[no-untyped-call]
    return result


class _Taken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: list[Tensor], group: dist.ProcessGroup) -> Tensor:
        ctx.rows, ctx.group, ctx.shape = rows, group, x.shape
        return x[rows[dist.get_rank(group)]]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        whole = grad.new_zeros(ctx.shape)
        whole[torch.cat(ctx.rows)] = _everybodys(grad, [len(each) for each in ctx.rows], ctx.group)
        return whole, None, None

"""Rows of tensors that move between processes, with gradients that are summed in the order of ranks."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed._functional_collectives import all_to_all_single, wait_tensor


def moved(x: Tensor, rows: Sequence[Tensor], counts: Sequence[int], group: dist.ProcessGroup) -> Tensor:
    """Sends rows of x [rows, ...] to each rank, int64 each; returns what ranks send to this one, `counts` of each.

    The result is [sum of counts, ...], in the order of ranks. The rows for one rank are distinct.
    """
    result: Tensor = _Moved.apply(x, list(rows), list(counts), group)  # type: ignore[no-untyped-call]
    return result


class _Moved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: list[Tensor], counts: list[int], group: dist.ProcessGroup) -> Tensor:
        ctx.rows, ctx.counts, ctx.group, ctx.shape = rows, counts, group, x.shape
        return _exchanged(x[torch.cat(rows)], [len(each) for each in rows], counts, group)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        sizes = [len(each) for each in ctx.rows]
        returned = _exchanged(grad.contiguous(), ctx.counts, sizes, ctx.group)
        total = grad.new_zeros(ctx.shape)
        for at, each in zip(ctx.rows, torch.split(returned, sizes), strict=True):
            total.index_add_(0, at, each)
        return total, None, None, None


def _exchanged(x: Tensor, sizes: list[int], counts: list[int], group: dist.ProcessGroup) -> Tensor:
    """All ranks at once: `sizes` rows to each, `counts` rows from each."""
    result: Tensor = wait_tensor(all_to_all_single(x.contiguous(), counts, sizes, group))  # type: ignore[no-untyped-call]
    return result


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
        every = [torch.empty_like(grad) for _ in range(dist.get_world_size(ctx.group))]
        dist.all_gather(every, grad.contiguous(), group=ctx.group)
        return torch.stack(every).sum(dim=0), None


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

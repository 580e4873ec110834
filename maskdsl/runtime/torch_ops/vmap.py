"""`torch.vmap` over the operators. Its axis becomes part of the batch; where that cannot be, entries come one by one.

It cannot where the pattern reads the number of a batch entry, and where inputs that have no batch dimension, such as
a slope for each head, differ along the axis or get gradients.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.ir.mask import DimensionKind
from maskdsl.runtime.compiled_mask import find


class _Batched(NamedTuple):
    """A tensor of one call, and its two axes for batches: each None if there is none."""

    tensor: Tensor
    axis: int | None
    """That of `vmap`."""
    position: int | None
    """Where the batch dimension is in an entry."""

    def entry(self, number: int) -> Tensor:
        return self.tensor if self.axis is None else self.tensor.select(self.axis, number)

    def folded(self, size: int) -> Tensor:
        """Both axes as one batch dimension."""
        if self.position is None:
            return self.tensor
        if self.axis is not None:
            return self.tensor.movedim(self.axis, self.position).flatten(self.position, self.position + 1)
        tensor = self.tensor.unsqueeze(self.position)
        sizes = [size if axis == self.position else length for axis, length in enumerate(tensor.shape)]
        return tensor.expand(sizes).flatten(self.position, self.position + 1)


class _BatchedCall(NamedTuple):
    """All tensors of one call; the last of them are inputs."""

    size: int
    tensors: list[_Batched]
    folds: bool

    def folded(self) -> list[Tensor]:
        return [each.folded(self.size) for each in self.tensors]

    def entries(self) -> Iterator[list[Tensor]]:
        for number in range(self.size):
            yield [each.entry(number) for each in self.tensors]

    def apart(self, result: Tensor, position: int) -> Tensor:
        """The axis of `vmap` at the place of the batch dimension, which moves one on."""
        shape = *result.shape[:position], self.size, result.shape[position] // self.size, *result.shape[position + 1 :]
        return result.view(shape)


def _batch_of(
    size: int,
    axes: Sequence[Any],
    tensors: Sequence[Tensor],
    inputs: Sequence[Tensor],
    handle: str,
    needs: Sequence[bool],
) -> _BatchedCall:
    """`axes` as torch gives them, those of the inputs as a list; `needs` says which inputs get gradients."""
    count = len(tensors)
    whole = [_Batched(x, axis, 0) for x, axis in zip(tensors, axes, strict=False)]
    queries, keys = (each.entry(0).shape[2] for each in whole[:2])
    plan = find(handle).bound(queries, keys).plan
    kinds = [[dimension.kind for dimension in each.dimensions] for each in plan.mask.inputs]
    positions = [each.index(DimensionKind.BATCH) if DimensionKind.BATCH in each else None for each in kinds]
    given = [_Batched(*each) for each in zip(inputs, axes[count], positions, strict=True)]
    apart = any(
        each.position is None and (each.axis is not None or need) for each, need in zip(given, needs, strict=True)
    )
    return _BatchedCall(size, [*whole, *given], not apart and not plan.reads_batch)


def batched_attention(operator: Any) -> Callable[..., Any]:
    """How `torch.vmap` calls `maskdsl::attention`."""

    def batched(info: Any, axes: Sequence[Any], *arguments: Any) -> Any:
        *tensors, inputs, handle, layout, wants_lse = arguments
        batch = _batch_of(info.batch_size, axes, tensors, inputs, handle, [False] * len(inputs))
        if not batch.folds:
            found = [operator(*each[:3], each[3:], handle, layout, wants_lse) for each in batch.entries()]
            return tuple(torch.stack(results) for results in zip(*found, strict=True)), (0, 0)
        folded = batch.folded()
        out, lse = operator(*folded[:3], folded[3:], handle, layout, wants_lse)
        if not wants_lse:
            return (batch.apart(out, 0), lse), (0, None)
        return (batch.apart(out, 0), batch.apart(lse, 0)), (0, 0)

    return batched


def batched_backward(operator: Any) -> Callable[..., Any]:
    """How `torch.vmap` calls `maskdsl::attention_backward`."""

    def batched(info: Any, axes: Sequence[Any], *arguments: Any) -> Any:
        *tensors, inputs, handle, layout, needs = arguments
        batch = _batch_of(info.batch_size, axes, tensors, inputs, handle, needs[3:])
        if not batch.folds:
            found = [operator(*each[:7], each[7:], handle, layout, needs) for each in batch.entries()]
            return [torch.stack(grads) for grads in zip(*found, strict=True)], [0] * sum(needs)
        folded = batch.folded()
        grads = operator(*folded[:7], folded[7:], handle, layout, needs)
        sources = zip([*batch.tensors[:3], *batch.tensors[7:]], needs, strict=True)
        positions = [each.position or 0 for each, need in sources if need]
        return [batch.apart(grad, position) for grad, position in zip(grads, positions, strict=True)], positions

    return batched


def unwrapped(x: Tensor) -> Tensor:
    """Without what `torch.func.grad` puts around it: the host sees its values."""
    while torch._C._functorch.is_gradtrackingtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def is_mapped(x: Tensor) -> bool:
    """Whether it stands for many entries of a `torch.vmap` that runs."""
    return torch._C._functorch.is_batchedtensor(unwrapped(x))

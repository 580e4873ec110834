"""The `torch.vmap` rules of the attention operators: fold the mapped axis into the batch, or call entry by entry.

Folding is impossible where the pattern reads the batch index, and where inputs without a batch dimension, such as a
slope for each head, differ along the mapped axis or need gradients.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.runtime.compiled.compiled_mask import find


class _Batched(NamedTuple):
    """A tensor argument, with its mapped axis and its batch dimension; each is None if there is none."""

    tensor: Tensor
    axis: int | None
    """The axis that `vmap` maps."""
    batch_axis: int | None
    """The batch dimension of an entry."""

    def entry(self, number: int) -> Tensor:
        """One entry of the mapped axis."""
        return self.tensor if self.axis is None else self.tensor.select(self.axis, number)

    def folded(self, size: int) -> Tensor:
        """The tensor with the mapped axis, of this size, folded into the batch dimension."""
        if self.batch_axis is None:
            return self.tensor
        if self.axis is not None:
            return self.tensor.movedim(self.axis, self.batch_axis).flatten(self.batch_axis, self.batch_axis + 1)
        tensor = self.tensor.unsqueeze(self.batch_axis)
        sizes = [size if axis == self.batch_axis else length for axis, length in enumerate(tensor.shape)]
        return tensor.expand(sizes).flatten(self.batch_axis, self.batch_axis + 1)


class _BatchedCall(NamedTuple):
    """All tensors of one mapped call; the last of them are the pattern's inputs."""

    size: int
    """Entries of the mapped axis."""
    tensors: list[_Batched]
    folds: bool
    """Whether the mapped axis can be folded into the batch."""

    def folded(self) -> list[Tensor]:
        return [each.folded(self.size) for each in self.tensors]

    def entries(self) -> Iterator[list[Tensor]]:
        for number in range(self.size):
            yield [each.entry(number) for each in self.tensors]

    def unfolded(self, result: Tensor, axis: int) -> Tensor:
        """A result with its batch dimension `axis` split into the mapped axis, at `axis`, and the batch, after it."""
        shape = *result.shape[:axis], self.size, result.shape[axis] // self.size, *result.shape[axis + 1 :]
        return result.view(shape)


def _batch_of(
    size: int,
    axes: Sequence[Any],
    tensors: Sequence[Tensor],
    inputs: Sequence[Tensor],
    handle: str,
    needs: Sequence[bool],
) -> _BatchedCall:
    """The mapped call. `axes` are as torch gives them, a list for the inputs; `needs` marks inputs with gradients."""
    count = len(tensors)
    whole = [_Batched(x, axis, 0) for x, axis in zip(tensors, axes, strict=False)]
    queries, keys = (each.entry(0).shape[2] for each in whole[:2])
    plan = find(handle).bound(queries, keys).plan
    kinds = [[dimension.kind for dimension in each.held] for each in plan.mask.inputs]
    batch_axes = [each.index(DimensionKind.BATCH) if DimensionKind.BATCH in each else None for each in kinds]
    given = [_Batched(*each) for each in zip(inputs, axes[count], batch_axes, strict=True)]
    differs = any(
        each.batch_axis is None and (each.axis is not None or need) for each, need in zip(given, needs, strict=True)
    )
    return _BatchedCall(size, [*whole, *given], not differs and not plan.reads_batch)


def batched_attention(operator: Any) -> Callable[..., Any]:
    """The `vmap` rule of `maskdsl::attention`."""

    def batched(info: Any, axes: Sequence[Any], *arguments: Any) -> Any:
        *tensors, inputs, handle, layout, wants_lse = arguments
        batch = _batch_of(info.batch_size, axes, tensors, inputs, handle, [False] * len(inputs))
        if not batch.folds:
            results = [operator(*each[:3], each[3:], handle, layout, wants_lse) for each in batch.entries()]
            return tuple(torch.stack(each) for each in zip(*results, strict=True)), (0, 0)
        folded = batch.folded()
        out, lse = operator(*folded[:3], folded[3:], handle, layout, wants_lse)
        if not wants_lse:
            return (batch.unfolded(out, 0), lse), (0, None)
        return (batch.unfolded(out, 0), batch.unfolded(lse, 0)), (0, 0)

    return batched


def batched_backward(operator: Any) -> Callable[..., Any]:
    """The `vmap` rule of `maskdsl::attention_backward`."""

    def batched(info: Any, axes: Sequence[Any], *arguments: Any) -> Any:
        *tensors, inputs, handle, layout, needs = arguments
        batch = _batch_of(info.batch_size, axes, tensors, inputs, handle, needs[3:])
        if not batch.folds:
            results = [operator(*each[:7], each[7:], handle, layout, needs) for each in batch.entries()]
            return [torch.stack(each) for each in zip(*results, strict=True)], [0] * sum(needs)
        folded = batch.folded()
        grads = operator(*folded[:7], folded[7:], handle, layout, needs)
        sources = zip([*batch.tensors[:3], *batch.tensors[7:]], needs, strict=True)
        batch_axes = [each.batch_axis or 0 for each, need in sources if need]
        return [batch.unfolded(grad, axis) for grad, axis in zip(grads, batch_axes, strict=True)], batch_axes

    return batched


def unwrapped(x: Tensor) -> Tensor:
    """The tensor inside the wrappers of `torch.func.grad`, whose values the host can read."""
    while torch._C._functorch.is_gradtrackingtensor(x):
        x = torch._C._functorch.get_unwrapped(x)
    return x


def is_mapped(x: Tensor) -> bool:
    """Whether x is a batched tensor of a running `torch.vmap`."""
    return torch._C._functorch.is_batchedtensor(unwrapped(x))

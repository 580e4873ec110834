"""Inputs as generated torch modules take them, and gradients as inputs are given."""

from torch import Tensor
from torch.nn.functional import pad

from maskdsl.ir.mask import DimensionKind, Input
from maskdsl.ir.ops import Type

AXES = (DimensionKind.BATCH, DimensionKind.HEADS, DimensionKind.TOKENS)


def as_value(declared: Input, tensor: Tensor) -> Tensor:
    """Integers as int64; one value a token as [batch or 1, heads or 1, tokens]."""
    if declared.type is Type.INT:
        tensor = tensor.long()
    if not declared.is_coordinate:
        return tensor
    tensor = tensor.permute(order_of(declared))
    here = heads_here(declared)
    if here is not None:
        tensor = tensor.narrow(-2, *here)
    for axis in missing(declared):
        tensor = tensor.unsqueeze(axis)
    return tensor


def as_given(declared: Input, value: Tensor) -> Tensor:
    """The other way; zeros for heads that are not here."""
    if not declared.is_coordinate:
        return value
    here = heads_here(declared)
    if here is not None:
        first, count = here
        heads = next(each.size for each in declared.dimensions if each.kind is DimensionKind.HEADS)
        assert heads is not None
        value = pad(value, (0, 0, first, heads - first - count))
    value = value.squeeze(missing(declared))
    order = order_of(declared)
    return value.permute([order.index(axis) for axis in range(len(order))])


def order_of(declared: Input) -> list[int]:
    """Where the axes stand that the input has."""
    kinds = [dimension.kind for dimension in declared.dimensions]
    return [kinds.index(kind) for kind in AXES if kind in kinds]


def heads_here(declared: Input) -> tuple[int, int] | None:
    """The first of the heads that are here and how many, where the input has one for each head and more than these."""
    return next((each.here for each in declared.dimensions if each.here is not None), None)


def missing(declared: Input) -> tuple[int, ...]:
    kinds = [dimension.kind for dimension in declared.dimensions]
    return tuple(axis for axis, kind in enumerate(AXES) if kind not in kinds)

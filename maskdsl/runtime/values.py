"""Inputs as generated torch modules take them, and gradients as inputs are given."""

from torch import Tensor

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
    for axis in missing(declared):
        tensor = tensor.unsqueeze(axis)
    return tensor


def as_given(declared: Input, value: Tensor) -> Tensor:
    """The other way."""
    if not declared.is_coordinate:
        return value
    value = value.squeeze(missing(declared))
    order = order_of(declared)
    return value.permute([order.index(axis) for axis in range(len(order))])


def order_of(declared: Input) -> list[int]:
    """Where the axes stand that the input has."""
    kinds = [dimension.kind for dimension in declared.dimensions]
    return [kinds.index(kind) for kind in AXES if kind in kinds]


def missing(declared: Input) -> tuple[int, ...]:
    kinds = [dimension.kind for dimension in declared.dimensions]
    return tuple(axis for axis, kind in enumerate(AXES) if kind not in kinds)

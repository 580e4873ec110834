"""Converts inputs to the layout of generated torch modules, and their gradients back to the declared layout."""

from torch import Tensor
from torch.nn.functional import pad

from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.ops import Type


def as_value(declared: Input, tensor: Tensor, widens: bool = True) -> Tensor:
    """An input for generated modules: per-token values as [batch or 1, heads or 1, tokens].

    Integers are int64; of the given type if not `widens`, for modules that do not compute with them.
    """
    if widens and declared.type is Type.INT:
        tensor = tensor.long()
    if not declared.is_coordinate:
        return tensor
    tensor = tensor.permute(declared.arrangement)
    if declared.heads_here is not None:
        tensor = tensor.narrow(-2, *declared.heads_here)
    for axis in declared.missing:
        tensor = tensor.unsqueeze(axis)
    return tensor


def as_given(declared: Input, value: Tensor) -> Tensor:
    """The inverse of `as_value`, for gradients: zeros for heads that are not here."""
    if not declared.is_coordinate:
        return value
    if declared.heads_here is not None:
        first, count = declared.heads_here
        heads = next(each.size for each in declared.dimensions if each.kind is DimensionKind.HEADS)
        assert heads is not None
        value = pad(value, (0, 0, first, heads - first - count))
    value = value.squeeze(declared.missing)
    back = sorted(range(value.dim()), key=declared.arrangement.__getitem__)
    return value.permute(back)

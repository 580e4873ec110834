"""From the tensors that callers give to those that a mask reads, with gradients: sides of size 1, key heads, `dim`."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.meaning.inputs import unfit
from maskdsl.runtime.base.validate import Signature

NO_LENGTHS: Mapping[str, int] = {}


def passed(
    signature: Signature,
    inputs: list[Tensor],
    batch: int,
    head_dim: int,
    device: torch.device,
    lengths: Mapping[str, int] = NO_LENGTHS,
) -> list[Tensor]:
    """The inputs of the mask before routes are found, on this device.

    `lengths` are those of token dimensions without a size, by text.

    The inputs of dropout follow those that callers give, and stay as they are.

    Raises `AttnError` if an input by key head has another number of them.
    """
    if not signature.changes_inputs:
        whole = [*inputs]
        for number, declared in enumerate(signature.declared):  # no comprehension: every call would pay its frame
            if 1 in inputs[number].shape:
                whole[number] = _whole(declared, inputs[number], batch, lengths)
        return whole
    names = [each.name for each in signature.declared]
    given, dropout = inputs[: len(names)], inputs[len(names) :]
    whole = [_whole(*each, batch, lengths) for each in zip(signature.declared, given, strict=True)] + dropout
    for source in signature.made:
        whole.append(torch.full((), head_dim, device=device) if source is None else whole[names.index(source)])
    return whole


def _whole(declared: Input, x: Tensor, batch: int, lengths: Mapping[str, int]) -> Tensor:
    """A tensor with sides of size 1 expanded, and the entry of each key head repeated for its query heads."""
    if x.dim() != len(declared.held):
        return x
    shape = list(x.shape)
    for axis, side in enumerate(declared.held):
        if side.shared > 1 and shape[axis] != 1:
            if shape[axis] != side.given_size:
                sides = tuple(replace(each, size=each.given_size, shared=1) for each in declared.dimensions)
                raise AttnError(*unfit(replace(declared, dimensions=sides), tuple(x.shape), declared.type, "", {}))
            x = x.repeat_interleave(side.shared, dim=axis)
            shape[axis] *= side.shared
        elif shape[axis] == 1 and side.kind is DimensionKind.BATCH:
            shape[axis] = batch
        elif shape[axis] == 1 and side.kind in (DimensionKind.HEADS, DimensionKind.TOKENS):
            shape[axis] = lengths.get(side.text, 1) if side.size is None else side.size
    return x if list(x.shape) == shape else x.expand(shape)

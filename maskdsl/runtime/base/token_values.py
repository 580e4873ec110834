"""Per-token values of a mask's coordinates, as tensors. Gradients flow back to the inputs that they come from."""

from collections.abc import Mapping
from functools import lru_cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from maskdsl.emit.plan import KernelPlan, make_plan
from maskdsl.emit.torch.token_module import emit_tokens
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import Given
from maskdsl.ir.expressions import Coordinate
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.numpy_operators import DTYPES
from maskdsl.ir.ops import Array
from maskdsl.ir.rewrites.chunk import Gathered, Leaf, Origin, Value
from maskdsl.runtime.base.call_cache import CallState
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.module_cache import load_module


def token_values(
    gathered: Gathered, value: Value, given: Mapping[str, Tensor], batch: int, device: torch.device, kept: Kept
) -> Tensor:
    """Values of all tokens of the whole mask, [batch or 1, heads or 1, tokens], in declared order.

    `given` are the inputs by declared name. Values that depend on no input are cached in `kept`.
    """
    node = value.leaf
    match value.origin:
        case Origin.FIXED:
            name = value.declared.name
            return kept.keep((name, device), lambda: torch.as_tensor(_computed(gathered, node), device=device))
        case Origin.GIVEN:
            return _from_inputs(gathered, node, given, device)
        case Origin.COMPUTED:
            assert isinstance(node, Coordinate)
            return _computed_from_inputs(gathered, node, given, batch, device)


def _computed(gathered: Gathered, node: Leaf) -> Array:
    """Values that depend on no input, computed by NumPy: [1, heads or 1, tokens]."""

    def row(head: int) -> Array:
        tokens = Coordinates(gathered.whole, gathered.tokens(node), {}, 0, head)
        values = tokens.values(node.name) if isinstance(node, Coordinate) else tokens.member(node.space)
        return np.asarray(values, dtype=DTYPES[node.type])

    varies = DimensionKind.HEADS in gathered.varying(node)
    return np.array([[row(head) for head in range(gathered.whole.heads if varies else 1)]])


def _computed_from_inputs(
    gathered: Gathered, node: Coordinate, given: Mapping[str, Tensor], batch: int, device: torch.device
) -> Tensor:
    """Values computed from inputs by generated torch, on the device: the host does not wait."""
    mask = gathered.whole
    plan, module = _coordinate_module(mask, node)
    known = [each for each in mask.inputs if each.name in given]
    values = {plan.input_identifiers[each.name]: as_value(each, given[each.name].detach()) for each in known}
    values |= CallState(plan, {}, 1).curves(device)
    values["batch"] = torch.arange(batch, device=device)[:, None, None]
    values["head"] = torch.arange(mask.heads, device=device)[:, None]
    computed: Tensor = module.coordinate(device=device, **values)[plan.identifiers[node.name]]
    kinds = gathered.varying(node)
    rows = batch if DimensionKind.BATCH in kinds else 1, mask.heads if DimensionKind.HEADS in kinds else 1
    return computed.expand(*rows, -1)


@lru_cache(maxsize=64)
def _coordinate_module(mask: MaskIR, node: Coordinate) -> tuple[KernelPlan, ModuleType]:
    plan = make_plan(mask)
    return plan, load_module(emit_tokens(plan, node.side, node.name), f"{mask.name}_tokens")


def _from_inputs(gathered: Gathered, node: Leaf, given: Mapping[str, Tensor], device: torch.device) -> Tensor:
    assert isinstance(node, Coordinate)
    """Values that an input holds, over all spaces of the sequence; zeros in spaces that do not have the coordinate."""
    sequence, pieces = gathered.tokens(node), []
    definition = sequence.definition(node.name)
    sources = dict(definition.sources) if definition is not None else {}
    for space, offset in zip(sequence.spaces, sequence.offsets, strict=True):
        source = sources.get(space.name)
        if not isinstance(source, Given):
            pieces.append(torch.zeros(1, 1, space.size, device=device))
            continue
        declared = gathered.whole.input(source.input)
        assert declared is not None
        value = as_value(declared, given[declared.name])
        of_space = any(each.text == space.name for each in declared.dimensions)
        is_whole = of_space and value.shape[-1] == space.size
        pieces.append(value if is_whole else value[..., offset : offset + space.size])
    batch, heads = (max(piece.shape[axis] for piece in pieces) for axis in (0, 1))
    dtype = next(piece.dtype for piece, space in zip(pieces, sequence.spaces, strict=True) if space.name in sources)
    return torch.cat([piece.to(dtype).expand(batch, heads, -1) for piece in pieces], dim=-1)

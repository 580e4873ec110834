"""A compiled pattern as FlexAttention takes it: functions of pairs, and the tiles as a `BlockMask`."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from maskdsl.analysis.tiles.block_map import Array, BlockMap, TileMap
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import UnknownLayout
from maskdsl.emit.plan import KernelPlan, declared_plan
from maskdsl.emit.torch.flex_module import emit_flex
from maskdsl.ir.mask import DimensionKind, MaskIR
from maskdsl.runtime.base.call_cache import CallState, as_array
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.base.module_cache import load_module
from maskdsl.runtime.base.validate import Signature, as_tensor, check_inputs, check_values, misnamed

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True, eq=False)
class FlexParts:
    """What `torch.nn.attention.flex_attention.flex_attention` is called with: `flex_attention(q, k, v, **arguments)`.

    They hold the inputs and stay on one device. In "ordered" layout q, k, v and the result are in laid-out order:
    `query_positions` and `key_positions` [batch or 1, heads or 1, tokens] say which token comes to each place; None
    where tokens stay in declared order.
    """

    mask_mod: Callable[..., Tensor]
    score_mod: Callable[..., Tensor] | None
    """None where scores stay as they are."""
    block_mask: "BlockMask"
    scale: float | None
    """None means 1 / sqrt(head dim). It is 1 where `score_mod` scales."""
    source: str
    """The text of the generated module in which the functions are."""
    query_positions: Tensor | None
    key_positions: Tensor | None

    @property
    def arguments(self) -> dict[str, Any]:
        """All but q, k and v. Heads of keys and values may divide those of queries."""
        mods = {"score_mod": self.score_mod, "block_mask": self.block_mask}
        return {**mods, "scale": self.scale, "enable_gqa": True}


def flex_parts(
    plan: KernelPlan,
    signature: Signature,
    given: Mapping[str, Any],
    block: tuple[int, int],
    layout: str,
    device: torch.device,
    batch: int | None,
) -> FlexParts:
    """Raises `AttnError` for what FlexAttention cannot express, and for inputs that are not those declared."""
    if layout not in ("declared", "ordered"):
        raise AttnError(UnknownLayout(name=layout))
    plan = plan if layout == "ordered" else declared_plan(plan)
    source, mask = emit_flex(plan), plan.mask
    tensors, entries = _inputs_of(mask, signature, given, device, batch)
    arrays = {name: as_array(tensors[name]) for name in plan.tile_inputs}
    state = CallState(plan, arrays, entries if plan.varies_by_batch else 1)
    values = {plan.input_identifiers[each.name]: as_value(each, tensors[each.name]) for each in mask.inputs}
    module = load_module(source, f"{mask.name}_flex")
    sys.modules[module.__name__] = module  # `torch.compile` looks for the modules of what it traces there
    positions = state.layout(device)
    values |= state.curves(device)
    mask_mod, score_mod = module.modifications(values, entries, mask.heads, device, positions)
    block_mask = _block_mask_of(state.tiles(block), mask_mod, device)
    return FlexParts(mask_mod, score_mod, block_mask, None if mask.scale is None else 1.0, source, *positions)


def _inputs_of(
    mask: MaskIR, signature: Signature, given: Mapping[str, Any], device: torch.device, batch: int | None
) -> tuple[dict[str, Tensor], int]:
    """The inputs as tensors of the device, and how many batch entries there are: as many as they have, or one."""
    tensors = {name: as_tensor(x, device) for name, x in given.items()}
    if wrong := list(misnamed(signature, given, tensors)):
        raise AttnError(*wrong)
    found = {name: x.to(device) for name, x in tensors.items() if x is not None}
    sizes = [batch] if batch is not None else []
    for each in mask.inputs:
        kinds = [dimension.kind for dimension in each.dimensions]
        if DimensionKind.BATCH in kinds and each.name in found and found[each.name].dim() == len(kinds):
            sizes.append(found[each.name].shape[kinds.index(DimensionKind.BATCH)])
    entries = sizes[0] if sizes else 1
    like = torch.empty(entries, mask.heads, mask.queries.length, 0, device=device)
    check_inputs(mask.inputs, [found[each.name] for each in mask.inputs], like)
    check_values(mask.inputs, [found[each.name] for each in mask.inputs])
    return found, entries


def _block_mask_of(tiles: BlockMap, mask_mod: Callable[..., Tensor], device: torch.device) -> "BlockMask":
    """The tiles as FlexAttention lists them: partial and full ones of every row, with room for every key block."""
    own = (
        tiles.class_of_head if (tiles.class_of_head != tiles.class_of_head[:, :1]).any() else tiles.class_of_head[:, :1]
    )
    listed_of = zip(*(_lists(tiles, each) for each in tiles.head_classes), strict=True)
    partial_counts, partial, full_counts, full = (
        torch.as_tensor(np.stack(each)[own], device=device) for each in listed_of
    )
    from torch.nn.attention.flex_attention import BlockMask  # imports torch._dynamo: a second

    return BlockMask.from_kv_blocks(
        *(partial_counts, partial, full_counts, full, tiles.block, mask_mod),
        seq_lengths=(tiles.query_length, tiles.key_length),
    )


def _lists(tiles: BlockMap, head_class: TileMap) -> tuple[Array, Array, Array, Array]:
    """How many key blocks each row has, and which, one behind the other: int32 [rows] and [rows, key blocks].

    Of partial tiles, then of full ones. As `create_block_mask` has it, a tile that the end of a sequence cuts is not
    full.
    """
    (partial_row, partial_column), (row, column) = head_class.partial.expand(), head_class.full.expand()
    cut = (row + 1) * tiles.block[0] > tiles.query_length
    cut |= (column + 1) * tiles.block[1] > tiles.key_length
    pairs = np.concatenate([partial_row, row[cut]]), np.concatenate([partial_column, column[cut]])
    order = np.lexsort(pairs[::-1])
    shape = tiles.query_blocks, tiles.key_blocks
    return *_listed(pairs[0][order], pairs[1][order], shape), *_listed(row[~cut], column[~cut], shape)


def _listed(row: Array, column: Array, shape: tuple[int, int]) -> tuple[Array, Array]:
    counts = np.bincount(row, minlength=shape[0]).astype(np.int32)
    indices = np.zeros(shape, dtype=np.int32)
    indices[row, np.arange(len(row)) - (np.cumsum(counts) - counts)[row]] = column
    return counts, indices

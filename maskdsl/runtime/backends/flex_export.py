"""A compiled pattern to the arguments of PyTorch's FlexAttention: `mask_mod`, `score_mod` and a `BlockMask`."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import NoHeadDim, UnknownLayout
from maskdsl.emit.plan import KernelPlan, declared_plan
from maskdsl.emit.torch.flex_module import emit_flex
from maskdsl.engines.block_lists import block_lists
from maskdsl.ir.declared.inputs import HEAD_DIM, DimensionKind
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.given_lists import holding
from maskdsl.runtime.base.call_cache import CallState, as_array
from maskdsl.runtime.base.input_tensors import as_value
from maskdsl.runtime.base.module_cache import load_module
from maskdsl.runtime.base.passed_inputs import passed
from maskdsl.runtime.base.validate import Signature, as_tensor, check_inputs, check_values, misnamed

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True, eq=False)
class FlexArguments:
    """The arguments of `torch.nn.attention.flex_attention.flex_attention`, for one device and one set of inputs.

    Call `flex_attention(q, k, v, **self.arguments)`. In "ordered" layout q, k, v and the result are in laid-out order:
    `query_positions` and `key_positions`, int64 [batch or 1, heads or 1, tokens], hold the declared position of each
    token; None where tokens stay in declared order.
    """

    mask_mod: Callable[..., Tensor]
    score_mod: Callable[..., Tensor] | None
    """None where the pattern does not change scores."""
    block_mask: "BlockMask"
    scale: float | None
    """None means 1 / sqrt(head dim). It is 1 where `score_mod` scales."""
    source: str
    """The text of the generated module that defines `mask_mod` and `score_mod`."""
    query_positions: Tensor | None
    key_positions: Tensor | None

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments but q, k and v. Grouped-query heads are enabled."""
        mods = {"score_mod": self.score_mod, "block_mask": self.block_mask}
        return {**mods, "scale": self.scale, "enable_gqa": True}


def flex_arguments(
    plan: KernelPlan,
    signature: Signature,
    given: Mapping[str, Any],
    block: tuple[int, int],
    layout: str,
    device: torch.device,
    batch: int | None,
    head_dim: int | None,
) -> FlexArguments:
    """Emits and loads the functions, and converts the tiles.

    `batch` is the number of batch entries, by default that of the inputs. Raises `AttnError` for patterns that
    FlexAttention cannot express, and for inputs that do not fit their declaration.
    """
    if layout not in ("declared", "ordered"):
        raise AttnError(UnknownLayout(name=layout))
    plan = plan if layout == "ordered" else declared_plan(plan)
    source, mask = emit_flex(plan), plan.mask
    tensors, entries = _inputs_of(mask, signature, given, device, batch, head_dim)
    arrays = {name: as_array(tensors[name]) for name in plan.tile_inputs}
    state = CallState(plan, arrays, entries if plan.varies_by_batch else 1)
    values = {plan.input_identifiers[each.name]: as_value(each, tensors[each.name]) for each in mask.inputs}
    module = load_module(source, f"{mask.name}_flex")
    sys.modules[module.__name__] = module  # `torch.compile` looks up traced functions' modules there
    positions = state.layout(device)
    values |= state.curves(device)
    mask_mod, score_mod = module.modifications(values, entries, mask.heads, device, positions)
    block_mask = _block_mask_of(state.tiles(block), mask_mod, device)
    return FlexArguments(mask_mod, score_mod, block_mask, None if mask.scale is None else 1.0, source, *positions)


def _inputs_of(
    mask: MaskIR,
    signature: Signature,
    given: Mapping[str, Any],
    device: torch.device,
    batch: int | None,
    head_dim: int | None,
) -> tuple[dict[str, Tensor], int]:
    """The inputs as tensors on the device, and the number of batch entries: `batch`, that of the inputs, or 1."""
    given = {name: x for name, x in given.items() if name not in signature.unread}
    tensors = {name: as_tensor(x, device) for name, x in holding(mask.inputs, given).items()}
    if wrong := list(misnamed(signature, given, tensors)):
        raise AttnError(*wrong)
    if head_dim is None and mask.input(HEAD_DIM) is not None:
        raise AttnError(NoHeadDim(pattern=mask.name, span=mask.span))
    moved = {name: x.to(device) for name, x in tensors.items() if x is not None}
    sizes = [batch] if batch is not None else []
    for each in mask.given:
        kinds = [dimension.kind for dimension in each.held]
        if DimensionKind.BATCH in kinds and each.name in moved and moved[each.name].dim() == len(kinds):
            sizes.append(moved[each.name].shape[kinds.index(DimensionKind.BATCH)])
    entries = next((size for size in sizes if size != 1), 1) if batch is None else batch
    whole = passed(signature, [moved[each.name] for each in mask.given], entries, head_dim or 1, device)
    moved = {each.name: x.to(device) for each, x in zip(mask.inputs, whole, strict=True)}
    like = torch.empty(entries, mask.heads, mask.queries.length, 0, device=device)
    check_inputs(mask.inputs, [moved[each.name] for each in mask.inputs], like)
    check_values(mask.inputs, [moved[each.name] for each in mask.inputs])
    return moved, entries


def _block_mask_of(tiles: BlockMap, mask_mod: Callable[..., Tensor], device: torch.device) -> "BlockMask":
    """The tiles as FlexAttention lists them."""
    from torch.nn.attention.flex_attention import BlockMask  # imports torch._dynamo: start-up time

    lists = {name: torch.as_tensor(each, device=device) for name, each in block_lists(tiles).items()}
    lengths = tiles.query_length, tiles.key_length
    return BlockMask(**lists, seq_lengths=lengths, BLOCK_SIZE=tiles.block, mask_mod=mask_mod)  # type: ignore[arg-type]

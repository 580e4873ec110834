"""`shard_layers`: one plan for layers of several masks, which share the homes of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from maskdsl.analysis.indices.given_reads import check_layers
from maskdsl.api.bound_patterns import Mask
from maskdsl.api.given_inputs import arrays_of
from maskdsl.api.sharded_layers import ShardArguments, ShardPlan, shard_stack
from maskdsl.base.arguments import COUNT, DTYPE, HEAD_DIM, LINK, RANKS, DtypeName, Kind, takes
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.sharding import OtherLayers
from maskdsl.distributed.homes import ShardScheme
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.stack import StackIR


def _masks(value: Any) -> tuple[Mask, ...]:
    masks = tuple(value)
    if not masks or not all(isinstance(each, Mask) for each in masks):
        raise ValueError
    return masks


@takes(
    masks=Kind("the masks of layers, first to last,", _masks),
    ranks=RANKS,
    per_node=COUNT,
    head_dim=HEAD_DIM,
    dtype=DTYPE,
    link=LINK,
    block=COUNT,
)
def shard_layers(
    masks: Sequence[Mask],
    ranks: int,
    /,
    *,
    per_node: int = 8,
    head_dim: int = 128,
    dtype: DtypeName = "bfloat16",
    link: tuple[float, float] = (50.0, 400.0),
    block: int = 128,
    scheme: ShardScheme | None = None,
    **inputs: ArrayLike,
) -> ShardPlan:
    """The cheapest plan for the layers of a model, by the sum of their times: `BoundStack.shard` without a stack.

    An input serves all masks that declare it. Raises `AttnError` as `Mask.shard` does, and if masks have other tokens
    or heads than the first one.
    """
    for each in masks:
        if _shape(each.ir) != _shape(masks[0].ir):
            raise AttnError(OtherLayers(pattern=each.name, other=masks[0].name))
    given = ShardArguments(ranks, per_node, head_dim, dtype, link, block, scheme)
    stack, whole = (_stacked(layers) for layers in ([each.ir for each in masks], [each._whole for each in masks]))
    arrays = arrays_of(whole, inputs)
    check_layers(whole.different, arrays)
    return shard_stack(stack, arrays, given, whole)


def _shape(mask: MaskIR) -> tuple[int, int, Heads | int]:
    return mask.queries.length, mask.keys.length, mask.whole or mask.heads


def _stacked(layers: Sequence[MaskIR]) -> StackIR:
    different = tuple(dict.fromkeys(layers))
    return StackIR("layers", (), layers[0].heads, different, tuple(map(different.index, layers)))

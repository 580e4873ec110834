"""Layers to their plan for many processes: the arguments of `Mask.shard` and `BoundStack.shard`.

Of layers with some heads of a whole, homes are those of the whole: processes with other heads hold the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, get_args

from numpy.typing import ArrayLike

from maskdsl.api.given_inputs import decided
from maskdsl.base.arguments import COUNT, Kind, fitting, optional
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.sharding import UnfitGroups
from maskdsl.base.records import dataclass
from maskdsl.distributed.gathered_tokens import GatheredTokens, gathered_tokens
from maskdsl.distributed.homes import Rule, ShardScheme, fits
from maskdsl.distributed.planning import BLOCK, shard
from maskdsl.distributed.pricing import ITEMSIZES, Cluster, LayerShape
from maskdsl.distributed.shard_plan import RankPlan
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.ir.stack import StackIR

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh

    from maskdsl.sharding.sharded_tokens import ShardedTokens

Inputs = Mapping[str, ArrayLike]

_RULES = get_args(Rule)


def _scheme(value: object) -> ShardScheme:
    if not isinstance(value, ShardScheme) or value.rule not in _RULES:
        raise TypeError
    for number in (value.chunk, value.groups):
        COUNT.convert(number)
    return value


_SCHEME = optional(Kind(f"the `scheme` of a plan, a `ShardScheme` by one of the rules {', '.join(_RULES)},", _scheme))


@dataclass(frozen=True, eq=False, repr=False)
class ShardPlan(RankPlan):
    __doc__ = RankPlan.__doc__

    def on(self, group: ProcessGroup | DeviceMesh) -> ShardedTokens:
        """The plan on the processes of a group, or of a mesh of one dimension: moves tokens, and computes attention.

        All of them call it, with equal plans. Raises `AttnError` if there are not as many processes as ranks.
        """
        from maskdsl.sharding.sharded_tokens import ShardedTokens  # imports torch: start-up time

        return ShardedTokens(self, group)


@dataclass(frozen=True)
class ShardArguments:
    """The arguments of `shard` beside the inputs."""

    ranks: int
    per_node: int = 8
    head_dim: int = 128
    dtype: str = "bfloat16"
    link: tuple[float, float] = (50.0, 400.0)
    block: int = BLOCK
    scheme: ShardScheme | None = None

    def cluster(self) -> Cluster:
        """The processes."""
        return Cluster(self.ranks, self.per_node, *self.link)

    def layer(self, mask: MaskIR) -> LayerShape:
        """The shape of a layer of this mask."""
        key_heads = None if mask.whole is None else mask.whole.key_count
        return LayerShape(mask.heads, key_heads or mask.heads, self.head_dim, ITEMSIZES[self.dtype])

    def kept(self, mask: MaskIR) -> ShardScheme | None:
        """The scheme, checked for the heads of a mask."""
        scheme: ShardScheme | None = fitting("scheme", self.scheme, _SCHEME)
        layer = self.layer(mask)
        if scheme is not None and not fits(scheme.groups, self.ranks, layer.heads, layer.key_heads):
            raise AttnError(
                UnfitGroups(scheme=str(scheme), ranks=self.ranks, heads=layer.heads, key_heads=layer.key_heads)
            )
        return scheme


def shard_mask(mask: MaskIR, inputs: Inputs, given: ShardArguments, whole: MaskIR | None = None) -> ShardPlan:
    """The plan of one layer, for the heads of a mask of the `whole`. Raises `AttnError` as `Mask.tiles` does."""
    gathered = _gathered(mask, inputs)
    mask, whole = (_candidates(each, inputs) for each in (mask, whole or mask))
    scheme, layer = given.kept(mask), given.layer(whole)
    arrays = [decided(whole, inputs)]
    here = None if whole.heads == mask.heads else (mask.here, given.layer(mask))
    plan = shard([whole], arrays, [gathered], [1], given.cluster(), layer, given.block, scheme, here)
    return _with_processes(plan, [mask])


def shard_stack(stack: StackIR, inputs: Inputs, given: ShardArguments, whole: StackIR | None = None) -> ShardPlan:
    """The plan of all layers, likewise. Raises `AttnError` as `BoundStack.stats` does."""
    whole = whole or stack
    firsts = [whole.index.index(number) for number in range(len(whole.different))]
    gathered = [_gathered(stack.layers[each], inputs) for each in firsts]
    masks = [_candidates(stack.layers[each], inputs) for each in firsts]
    whole = replace(whole, different=tuple(_candidates(each, inputs) for each in whole.different))
    times = [whole.count(number) for number in range(len(firsts))]
    scheme, layer = given.kept(masks[0]), given.layer(whole.different[0])
    arrays = find_in_layers(whole, inputs)
    here = None if whole.heads == stack.heads else (masks[0].here, given.layer(masks[0]))
    plan = shard(whole.different, arrays, gathered, times, given.cluster(), layer, given.block, scheme, here)
    return _with_processes(plan, masks)


def _with_processes(plan: RankPlan, masks: Sequence[MaskIR]) -> ShardPlan:
    """The plan for masks of heads of those that were planned for."""
    return ShardPlan(**{each.name: getattr(plan, each.name) for each in fields(plan)} | {"masks": tuple(masks)})


def _candidates(mask: MaskIR, given: Inputs) -> MaskIR:
    """The mask; if neither vectors nor selections are given, that of all pairs that some call may attend."""
    return most(mask) if selects(mask) and not _is_decided(mask, given) else mask


def _is_decided(mask: MaskIR, given: Inputs) -> bool:
    return {"q", "k"} <= given.keys() or all(each.name in given for each in mask.routed)


def _gathered(mask: MaskIR, given: Inputs) -> GatheredTokens:
    """What calls gather: all that selects, where selections are compared with those that were planned for."""
    gathered = gathered_tokens(mask)
    compares = selects(mask) and _is_decided(mask, given)
    return replace(gathered, queries=True) if gathered.keys and compares else gathered

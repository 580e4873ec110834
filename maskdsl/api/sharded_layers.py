"""Layers to their plan for many processes: the arguments of `Mask.shard` and `BoundStack.shard`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from maskdsl.api.given_inputs import decided
from maskdsl.base.arguments import fitting, instance, optional
from maskdsl.base.records import dataclass
from maskdsl.distributed.homes import ShardScheme
from maskdsl.distributed.planning import shard
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

_SCHEME = optional(instance("the `scheme` of a plan", ShardScheme))


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
    per_node: int
    head_dim: int
    dtype: str
    link: tuple[float, float]
    block: int
    scheme: ShardScheme | None

    def cluster(self) -> Cluster:
        """The processes."""
        return Cluster(self.ranks, self.per_node, *self.link)

    def layer(self, mask: MaskIR) -> LayerShape:
        """The shape of a layer of this mask."""
        key_heads = None if mask.whole is None else mask.whole.key_count
        return LayerShape(mask.heads, key_heads or mask.heads, self.head_dim, ITEMSIZES[self.dtype])

    def kept(self) -> ShardScheme | None:
        """The scheme, checked."""
        checked: ShardScheme | None = fitting("scheme", self.scheme, _SCHEME)
        return checked


def shard_mask(mask: MaskIR, inputs: Inputs, given: ShardArguments) -> ShardPlan:
    """The plan of one layer. Raises `AttnError` as `Mask.tiles` does."""
    scheme, mask = given.kept(), _candidates(mask, inputs)
    plan = shard([mask], [decided(mask, inputs)], [1], given.cluster(), given.layer(mask), given.block, scheme)
    return _with_processes(plan)


def shard_stack(stack: StackIR, inputs: Inputs, given: ShardArguments) -> ShardPlan:
    """The plan of all layers. Raises `AttnError` as `BoundStack.stats` does."""
    scheme, stack = given.kept(), replace(stack, different=tuple(_candidates(each, inputs) for each in stack.different))
    times = [stack.count(number) for number in range(len(stack.different))]
    layer = given.layer(stack.different[0])
    arrays = find_in_layers(stack, inputs)
    return _with_processes(shard(stack.different, arrays, times, given.cluster(), layer, given.block, scheme))


def _with_processes(plan: RankPlan) -> ShardPlan:
    return ShardPlan(**{each.name: getattr(plan, each.name) for each in fields(plan)})


def _candidates(mask: MaskIR, given: Inputs) -> MaskIR:
    """The mask; if neither vectors nor selections are given, that of all pairs that some call may attend."""
    is_decided = {"q", "k"} <= given.keys() or all(each.name in given for each in mask.routed)
    return most(mask) if selects(mask) and not is_decided else mask

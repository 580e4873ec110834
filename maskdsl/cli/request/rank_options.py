"""`--ranks` and `--per-node` of pictures, and the plans that they ask for."""

from collections.abc import Sequence

from maskdsl.api import Mask
from maskdsl.api.sharded_layers import ShardArguments, shard_mask, shard_stack
from maskdsl.base.records import dataclass
from maskdsl.cli.request.routed_masks import Arrays, ResolvedStack
from maskdsl.distributed.shard_plan import RankPlan


@dataclass(frozen=True)
class RankOptions:
    """For how many processes plans are drawn, and how many of them are neighbours.

    The methods plan for each number of ranks, with the defaults of `Mask.shard`. They raise `AttnError` as it does.
    """

    ranks: Sequence[int] = ()
    per_node: int = 8

    def of_mask(self, mask: Mask, inputs: Arrays) -> list[RankPlan]:
        """The plans of a mask."""
        return [shard_mask(mask.ir, inputs, each) for each in self._arguments()]

    def of_stack(self, resolved: ResolvedStack) -> list[RankPlan]:
        """The plans of all layers together."""
        return [shard_stack(resolved.stack, resolved.inputs, each) for each in self._arguments()]

    def _arguments(self) -> list[ShardArguments]:
        return [ShardArguments(ranks, self.per_node) for ranks in self.ranks]

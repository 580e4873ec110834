"""Exact statistics of a stack: of each different layer, and of all layers together."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from maskdsl.analysis.counts.stats import Figures, Measured, Stats, add_up, figures_of, measure_all
from maskdsl.base.display import Displayed
from maskdsl.base.records import dataclass
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.ir.stack import StackIR


@dataclass(frozen=True)
class StackStats(Displayed):
    """Statistics of a stack."""

    total: Figures
    """The sum over all layers and heads."""
    different: tuple[Stats, ...]
    """The statistics of each different layer."""
    index: tuple[int, ...]
    """For each layer, its number in `different`."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        return {
            "total": self.total.as_dict(),
            "different": [each.as_dict() for each in self.different],
            "index": list(self.index),
        }

    def _shown_(self) -> tuple[object, ...]:
        return (self,)

    def __repr__(self) -> str:
        return f"StackStats({len(self.index)} layers, {len(self.different)} different: {self.total})"


def stack_stats(
    stack: StackIR,
    block: tuple[int, int] = (128, 128),
    inputs: Mapping[str, object] | None = None,
    *,
    head_dim: int = 64,
    element_size: int = 2,
) -> StackStats:
    """The statistics of a stack; `inputs` has those of all layers, and the others are as for `stats`."""
    uses: Counter[Measured] = Counter()
    of_branches: Counter[Measured] = Counter()
    different: list[Stats] = []
    for number, (mask, given) in enumerate(zip(stack.different, find_in_layers(stack, inputs or {}), strict=True)):
        measured = measure_all(mask, block, given)
        different.append(figures_of(mask, measured, block, head_dim, element_size))
        times = stack.count(number)
        uses.update({each: count * times for each, count in measured.uses(measured.entries).items()})
        for branch in measured.branches or (measured,):
            of_branches.update({each: count * times for each, count in branch.uses(measured.entries).items()})
    total = add_up(uses, of_branches, head_dim=head_dim, element_size=element_size)
    return StackStats(total, tuple(different), stack.index)

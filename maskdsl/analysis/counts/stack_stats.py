"""What a stack costs: the figures of each of its different layers, and of all layers together."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maskdsl.analysis.counts.stats import Figures, Measured, Stats, add_up, figures_of, measure_all
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.ir.stack import StackIR


@dataclass(frozen=True)
class StackStats:
    total: Figures
    """Of all layers and heads."""
    different: tuple[Stats, ...]
    """Of one layer of each kind."""
    index: tuple[int, ...]
    """For every layer, which of these it is."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, as JSON has them."""
        return {
            "total": self.total.as_dict(),
            "different": [each.as_dict() for each in self.different],
            "index": list(self.index),
        }


def stack_stats(
    stack: StackIR,
    block: tuple[int, int] = (128, 128),
    inputs: Mapping[str, object] | None = None,
    *,
    head_dim: int = 64,
    element_size: int = 2,
) -> StackStats:
    """`inputs` are those of all layers; see `stats`."""
    parts: Counter[Measured] = Counter()
    different: list[Stats] = []
    for number, (mask, own) in enumerate(zip(stack.different, find_in_layers(stack, inputs or {}), strict=True)):
        measured = measure_all(mask, block, own)
        different.append(figures_of(mask, measured, block, head_dim, element_size))
        for head_class in measured.head_classes.index.ravel().tolist():
            parts[measured.parts[head_class]] += stack.count(number)
    return StackStats(add_up(parts, head_dim, element_size), tuple(different), stack.index)

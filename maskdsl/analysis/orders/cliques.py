"""Cliques: groups of tokens such that queries attend keys of their group alone, as windows of a grid are.

Exact, from the coordinates of the tokens, in memory linear in their number.
"""

from collections.abc import Iterable

import numpy as np

from maskdsl.analysis.orders.layouts import Keys, Layout
from maskdsl.analysis.orders.order_hints import agreement
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.head_classes import MOST_TOKENS
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Apply, Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Op

_Agreement = tuple[Expression, Expression]
"""Of `f(q) == g(k)`, f and g over one token."""


@dataclass(frozen=True)
class Cliques:
    """Groups of queries and keys. No pair of two different groups attends."""

    sizes: tuple[int, int] | None
    """Queries and keys of each group; None where groups differ in size."""
    layout: Layout
    """Sort keys by which the tokens of every group lie side by side; empty where they do so already."""


def find_cliques(mask: MaskIR) -> tuple[Cliques, ...]:
    """The cliques of all heads and batch entries: those of equal size, and the smallest, where these differ in size.

    Conditions that read inputs, the head or the batch entry make no cliques, and neither do several spaces of a side.
    There are none that an order of the mask cuts.
    """
    sequences = mask.sequences.values()
    if any(len(each.spaces) > 1 or not trace(each, each.sort_keys).is_fixed for each in sequences):
        return ()
    agreements = [each for each in _implied(mask.relation) if _is_usable(mask, each)]
    if not agreements or any(not 0 < each.length <= MOST_TOKENS for each in sequences):
        return ()
    queries = _Groups(mask, Side.QUERY)
    keys = queries if mask.self_attention else _Groups(mask, Side.KEY)
    choices = dict.fromkeys(_splitting(agreements, queries, keys, equally) for equally in (True, False))
    cliques = [_cliques_of(chosen, queries, keys) for chosen in choices if chosen]
    return tuple(each for each in cliques if not (each.layout and any(one.sort_keys for one in sequences)))


def _cliques_of(chosen: tuple[_Agreement, ...], queries: "_Groups", keys: "_Groups") -> Cliques:
    query_keys, key_keys = zip(*chosen, strict=True)
    sides = (queries, query_keys), (keys, key_keys)
    layout = {groups.space: sort_keys for groups, sort_keys in sides if not groups.lie_together(sort_keys)}
    query_size, key_size = queries.size(query_keys), keys.size(key_keys)
    return Cliques(None if query_size is None or key_size is None else (query_size, key_size), layout)


def _implied(relation: Expression) -> tuple[_Agreement, ...]:
    """The agreements of every pair that attends, in the order of the relation."""
    match relation:
        case Apply(Op.AND, operands):
            return tuple(dict.fromkeys(each for operand in operands for each in _implied(operand)))
        case Apply(Op.OR, operands):
            first, *others = map(_implied, operands)
            return tuple(each for each in first if all(each in other for other in others))
        case _:
            keys = agreement(relation)
            return () if keys is None else (keys,)


def _is_usable(mask: MaskIR, keys: _Agreement) -> bool:
    """Whether tokens can be sorted by these keys before a call: once, where both sides are the same tokens."""
    names = [sequence.spaces[0].name for sequence in mask.sequences.values()]
    if names[0] == names[1] and keys[0] != keys[1]:
        return False
    sides = zip(mask.sequences.values(), keys, strict=True)
    return all(
        trace(sequence, [key]).is_fixed
        and all(sequence.has(sequence.spaces[0], x.name) for x in reads(key).coordinates)
        for sequence, key in sides
    )


def _splitting(
    agreements: Iterable[_Agreement], queries: "_Groups", keys: "_Groups", equally: bool
) -> tuple[_Agreement, ...]:
    """The agreements that split the groups of those before them; `equally`: into groups of equal size."""
    chosen: tuple[_Agreement, ...] = ()
    count = 2
    for each in agreements:
        several = *chosen, each
        sides = zip((queries, keys), zip(*several, strict=True), strict=True)
        numbers = [side.numbers(sort_keys) for side, sort_keys in sides]
        groups = sum(int(each.max()) + 1 for each in numbers)
        are_equal = all(not np.ptp(np.bincount(each)) for each in numbers)
        if groups > count and (are_equal or not equally):
            chosen, count = several, groups
    return chosen


class _Groups:
    """The groups of the tokens of one side that have equal sort keys."""

    def __init__(self, mask: MaskIR, side: Side) -> None:
        self.sequence = mask.sequences[side]
        self.coordinates = Coordinates(mask, self.sequence, {})
        self.known: dict[Keys, Array] = {}

    @property
    def space(self) -> str:
        """The name of their space."""
        return self.sequence.spaces[0].name

    def numbers(self, keys: Keys) -> Array:
        """int64 [tokens]: the number of each token's group, by its sort keys; the first is 0. Cached."""
        if not keys:
            return np.zeros(self.sequence.length, dtype=np.int64)
        if keys not in self.known:
            values = _numbered(self.coordinates.evaluate(keys[-1]))
            self.known[keys] = _numbered(self.numbers(keys[:-1]) * (values.max(initial=0) + 1) + values)
        return self.known[keys]

    def size(self, keys: Keys) -> int | None:
        """The tokens of a group; None if groups differ."""
        counts = np.bincount(self.numbers(keys))
        return None if np.ptp(counts) else int(counts[0])

    def lie_together(self, keys: Keys) -> bool:
        """Whether each group is a run of tokens in memory order."""
        order, numbers = self.coordinates.permutation(), self.numbers(keys)
        laid_out = numbers if order is None else numbers[order]
        return int(np.count_nonzero(np.diff(laid_out))) == int(numbers.max())


def _numbered(values: Array) -> Array:
    """int64: the rank of each value among the different ones."""
    return np.asarray(np.unique(values, return_inverse=True)[1].reshape(-1))

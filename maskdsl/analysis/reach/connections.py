"""Between all tokens: whether each reaches each, after how many layers, and which never do.

Kept as rows of bits for tokens, where they are few, and otherwise for blocks of tokens in one common layout.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from maskdsl.analysis.reach.arrival import Arrival, complete, follow_readers, islands
from maskdsl.analysis.reach.bit_rows import ConnectedPairs, dense, spread
from maskdsl.analysis.reach.components import (
    Components,
    components_of_bits,
    components_of_graph,
    connected_pairs,
    cover,
    transposed,
)
from maskdsl.analysis.reach.hops import Hop, LayerHops, find_layer, sources
from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.ir.stack import StackIR

MOST_CELLS = 1 << 13
"""A set of rows of bits takes 8 MiB then."""
_MOST_WORDS = 1 << 25
"""Read by one layer."""
_MOST_EDGES = 1 << 18
"""Of a graph of tokens, up to which it is made."""
TILES = 1 << 10
MOST_WORK = 1 << 27
"""Runs and tokens looked at along the way from a token, about."""
_STEPS = 8
"""Of such ways through a part of the tokens, about."""


@dataclass(frozen=True)
class Connections:
    """Of two tokens, one may draw from the other after enough layers, or both from each other, or neither ever.

    By blocks (`block` > 1) numbers of pairs are lower bounds, and so are those of components but where
    `exact_components` says otherwise; then pairs are exact too if `one_way` is known.
    """

    block: int
    """Tokens of a block: 1 where all of this is exact."""
    everything: bool | None
    """Each token draws from each one, after enough layers. None: blocks cannot tell."""
    layers: int | None
    """After so many nothing is added any more: the longest shortest path. By blocks: everything takes no fewer."""
    most_layers: int | None
    """The same, or by blocks: everything takes no more. None where that is not known."""
    pairs: tuple[int, ...]
    """Ordered pairs, a token with itself included, after 0, 1, 2, ... layers; the first ones. Empty by blocks."""
    both_ways: int
    """Unordered pairs of different tokens that draw from each other."""
    one_way: int | None
    never: int
    components: Components
    exact_components: bool
    path: tuple[int, ...]
    """Tokens along a longest shortest path, from the one that draws to the one drawn from. Empty by blocks."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"pairs": list(self.pairs), "path": list(self.path)}


def find_connections(
    stack: StackIR, given: Sequence[Mapping[str, object]], different: Sequence[LayerHops], block: int
) -> Connections:
    """`different` are the different layers by blocks of so many tokens."""
    length = stack.length
    hops = [hop for layer in different for hop in layer.all]
    runs = sum(len(hop.runs.start) for hop in hops)
    if block == 1 and length <= MOST_CELLS and runs * (length // 64) <= _MOST_WORDS:
        return _by_tokens([different[number].all for number in stack.index], length)
    found = _in_common_layout(stack, given, different, block)
    if any(layer.possible for layer in different):
        return found
    steps = MOST_WORK // (length + runs)
    parts = islands(tuple(hops), length, steps // _STEPS, steps)
    if parts is not None:
        return _of_islands(found, parts)
    plain = block == 1 and all(hop.members is None for hop in hops)
    few = plain and runs <= _MOST_EDGES and sum(len(cover(hop.runs, length)[0]) for hop in hops) <= _MOST_EDGES
    return replace(found, components=components_of_graph(hops, length), exact_components=True) if few else found


def _in_common_layout(
    stack: StackIR, given: Sequence[Mapping[str, object]], different: Sequence[LayerHops], block: int
) -> Connections:
    """By blocks in the layout that all layers have, or otherwise in declared order."""
    size = 1 << (stack.length // TILES).bit_length()
    shared = _one_layout([hop for layer in different for hop in layer.all])
    if size != block or not shared:
        masks = zip(stack.different, given, strict=True)
        different = [find_layer(mask, size, inputs, declared=not shared) for mask, inputs in masks]
    return _by_blocks([_between_cells(different[number]) for number in stack.index], size, stack.length)


def _of_islands(found: Connections, sizes: Sequence[int]) -> Connections:
    """With what is known if tokens are in strongly connected parts of these sizes and nothing is between them."""
    both = sum(size * (size - 1) // 2 for size in sizes)
    total = sum(sizes) * (sum(sizes) - 1) // 2
    return replace(
        found,
        everything=len(sizes) == 1,
        layers=found.layers if len(sizes) == 1 else None,
        both_ways=both,
        one_way=0,
        never=total - both,
        components=Components.of_sizes(sizes, sizes),
        exact_components=True,
    )


def narrowed(found: Connections, draws: Arrival, readers: Arrival, period: int) -> Connections:
    """With what the way from one token and to it tells: everything can go by way of it, and not all of it faster."""
    if found.everything is False or found.block == 1:
        return found
    if not (complete(draws.latest) and complete(readers.latest)):
        known = complete(draws.earliest) and complete(readers.earliest)
        return found if known else replace(found, everything=False, layers=None)
    passes = -(-int(draws.latest.max()) // period) * period
    most = passes + int(readers.latest.max())
    least = max(found.layers or 0, int(draws.earliest.max()), int(readers.earliest.max()))
    if found.most_layers is not None:
        most = min(most, found.most_layers)
    length = len(draws.latest)
    whole = _of_islands(found, [length])
    return replace(whole, layers=least, most_layers=most)


def _by_tokens(layers: Sequence[tuple[Hop, ...]], length: int) -> Connections:
    hops = [hop for each in layers for hop in each]
    order = hops[0].order if hops and _one_layout(hops) else None
    laid = [tuple(replace(hop, order=None) for hop in each) for each in layers] if order is not None else layers
    found = spread(laid, length, reflexive=True)
    sizes = np.ones(length, dtype=np.int64)
    back = transposed(found.ever)
    both, one = connected_pairs(found.ever, back, sizes)
    return Connections(
        block=1,
        everything=both == length * (length - 1) // 2,
        layers=found.layers,
        most_layers=found.layers,
        pairs=found.pairs,
        both_ways=both,
        one_way=one,
        never=length * (length - 1) // 2 - both - one,
        components=components_of_bits(found.ever, back, sizes),
        exact_components=True,
        path=_longest_path(layers, found, order) if found.layers else (),
    )


def _by_blocks(layers: Sequence[LayerHops], size: int, length: int) -> Connections:
    """What is connected through full tiles alone is connected, and what is not through any tiles is not."""
    cells = -(-length // size)
    sizes = np.full(cells, size, dtype=np.int64)
    sizes[-1] = length - (cells - 1) * size
    least = spread([layer.certain for layer in layers], cells, reflexive=False)
    most = spread([layer.all for layer in layers], cells, reflexive=True)
    back = transposed(most.ever)
    both, _ = connected_pairs(least.ever, transposed(least.ever), sizes)
    possible, one_way = connected_pairs(most.ever, back, sizes)
    total = length * (length - 1) // 2
    everything = True if both == total else None if possible == total else False
    return Connections(
        block=size,
        everything=everything,
        layers=None if everything is False else most.layers,
        most_layers=least.layers if everything else None,
        pairs=(),
        both_ways=both,
        one_way=None,
        never=total - possible - one_way,
        components=components_of_bits(most.ever, back, sizes),
        exact_components=False,
        path=(),
    )


def _one_layout(hops: Sequence[Hop]) -> bool:
    """Whether queries and keys of all have the same order."""
    orders = [hop.order for hop in hops]
    known = [order for order in orders if order is not None]
    alike = not known or (len(known) == len(orders) and all(np.array_equal(order, known[0]) for order in known))
    return alike and all(hop.members is None for hop in hops)


def _between_cells(layer: LayerHops) -> LayerHops:
    """The same between blocks of places in the common layout, in place of tokens."""
    certain = [replace(hop, order=None, members=_cell_members(hop, whole=True)) for hop in layer.certain]
    possible = [replace(hop, order=None, members=_cell_members(hop, whole=False)) for hop in layer.possible]
    pooled = [hop for hop in layer.certain if hop.members is not None]  # which touch more cells than they fill
    possible += [replace(hop, order=None, members=_cell_members(hop, whole=False)) for hop in pooled]
    return LayerHops(tuple(certain), tuple(possible))


def _cell_members(hop: Hop, whole: bool) -> Runs | None:
    """For each block of keys, the blocks of tokens that it has something of, or all of."""
    if hop.members is None:
        return None
    key, token = hop.members.expand()
    pairs = np.unique(np.stack([key // hop.block, token]), axis=1)
    cells, counts = np.unique(np.stack([pairs[0], pairs[1] // hop.block]), axis=1, return_counts=True)
    sizes = np.minimum(hop.block, hop.length - cells[1] * hop.block)
    row, column = cells[:, counts == sizes] if whole else cells
    return Runs.of_segments(-(-hop.members.rows // hop.block), row, column, column + 1)


def _longest_path(layers: Sequence[tuple[Hop, ...]], found: ConnectedPairs, order: Array | None) -> tuple[int, ...]:
    """Tokens along one of the paths that only the last layer completes; rows of bits are places in this order."""
    late = found.ever & ~found.before
    row = int(np.argmax(late.any(axis=1)))
    column = int(np.argmax(dense(late[row][None], len(late))))
    reader, source = (row, column) if order is None else (int(order[row]), int(order[column]))
    arrival, _ = follow_readers(layers, source, len(late), found.layers)
    path = [reader]
    for number in range(found.layers - 1, -1, -1):
        if not 0 <= arrival[path[-1]] <= number:  # it did not know yet: it drew from one that did
            here = np.arange(len(late)) == path[-1]
            near = sources(layers[number % len(layers)], here) & (arrival >= 0) & (arrival <= number)
            path.append(int(np.argmax(near)))
    return tuple(path)

"""Connected components and connected pairs of tokens, after any number of layers."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskdsl.analysis.reach.bit_rows import WORD, count, dense, strips
from maskdsl.analysis.reach.hops import Hop
from maskdsl.analysis.tiles.block_map import Array, Runs
from maskdsl.base.records import dataclass

if TYPE_CHECKING:
    from networkx import DiGraph


@dataclass(frozen=True)
class Components:
    """The numbers of connected components, and the tokens of the largest ones."""

    strong: int
    """Strongly connected components: each token draws from each other one, directly or through others."""
    largest_strong: int
    weak: int
    """Weakly connected components: no token draws from a token of another one."""
    largest_weak: int

    @staticmethod
    def of_sizes(strong: Sequence[int], weak: Sequence[int]) -> "Components":
        return Components(len(strong), max(strong), len(weak), max(weak))


def components_of_bits(ever: Array, back: Array, sizes: Array) -> Components:
    """The components of cells with `sizes` tokens each. `ever` has all connected pairs; `back` is its transpose."""
    _, members = np.unique(ever.view(np.dtype((np.void, ever.shape[1] * 8))).ravel(), return_inverse=True)
    strong = np.bincount(members.ravel(), weights=sizes).astype(int)
    weak = [int(sizes[each].sum()) for each in _islands(ever | back)]
    return Components.of_sizes(strong.tolist(), weak)


def _islands(both: Array) -> Iterator[Array]:
    """Yields the members of each component of a symmetric relation."""
    remaining = np.ones(len(both), dtype=bool)
    while remaining.any():
        reached = both[int(np.argmax(remaining))][None]
        while True:
            members = np.flatnonzero(dense(reached, len(both))[0])
            grown = np.bitwise_or.reduce(both[members], axis=0)[None]
            if count(grown) == len(members):
                break
            reached = grown
        remaining[members] = False
        yield members


def transposed(rows: Array) -> Array:
    """The transpose of a square bit matrix."""
    result = np.zeros_like(rows)
    for strip, ones in strips(rows):
        packed = np.packbits(ones.T, axis=1, bitorder="little")
        result.view(np.uint8)[:, strip.start // 8 : strip.start // 8 + packed.shape[1]] = packed
    return result


def connected_pairs(ever: Array, back: Array, sizes: Array) -> tuple[int, int]:
    """Unordered pairs of different tokens that are connected both ways, and those connected one way only."""
    with_itself = int(sizes @ diagonal(ever))
    mutual, some = ((weighed(rows, sizes) - with_itself) // 2 for rows in (ever & back, ever | back))
    return mutual, some - mutual


def diagonal(rows: Array) -> Array:
    """bool [rows]: the diagonal of a bit matrix."""
    number = np.arange(len(rows))
    return np.asarray((rows[number, number // WORD] >> (number % WORD).astype(np.uint64)) & np.uint64(1), dtype=bool)


def weighed(rows: Array, sizes: Array) -> int:
    """The number of pairs of tokens in the pairs of cells whose bit is set."""
    if int(sizes.max()) == 1:
        return count(rows)
    return sum(int(sizes[strip] @ (ones.astype(np.int64) @ sizes)) for strip, ones in strips(rows))


def components_of_graph(hops: Sequence[Hop], length: int) -> Components:
    """The exact components of tokens, without work on all pairs."""
    import networkx  # start-up time, rarely needed

    graph = _interval_graph(hops, length)
    kinds = networkx.strongly_connected_components(graph), networkx.weakly_connected_components(graph)
    strong, weak = ([sum(node < length for node in each) for each in components] for components in kinds)
    return Components.of_sizes([each for each in strong if each], weak)


def _interval_graph(hops: Sequence[Hop], length: int) -> "DiGraph":
    """A graph with paths from each token to the tokens that it attends, through nodes for intervals of keys.

    Tokens are the nodes 0 to `length`. After them come, for each hop, the inner nodes of a binary tree over its keys
    (a segment tree): a run of keys is a few whole subtrees, so there are far fewer edges than pairs. Only subtrees that
    some token attends as a whole are included: other inner nodes would connect unrelated tokens.
    """
    from networkx import DiGraph  # start-up time

    graph = DiGraph()
    graph.add_nodes_from(range(length))
    size = 1 << (length - 1).bit_length()
    for number, hop in enumerate(hops):
        assert hop.block == 1, "hops between blocks have no graph"
        order = np.arange(length) if hop.order is None else hop.order
        nodes = np.concatenate([length + number * size + np.arange(size), order])
        query, subtree = cover(hop.runs, size)
        attended = np.zeros(2 * size, dtype=bool)
        attended[subtree] = True
        for parents in (slice(1 << depth, 2 << depth) for depth in range(size.bit_length() - 1)):
            attended[2 * parents.start : 2 * parents.stop] |= np.repeat(attended[parents], 2)
        inner = np.flatnonzero(attended[:size])
        tails, heads = np.concatenate([size + query, inner, inner]), np.concatenate([subtree, 2 * inner, 2 * inner + 1])
        graph.add_edges_from(zip(nodes[tails].tolist(), nodes[heads].tolist(), strict=True))
    return graph


def cover(runs: Runs, size: int) -> tuple[Array, Array]:
    """Rows and subtrees: the fewest whole subtrees that cover each run. The leaves of the tree are `size` onwards."""
    covered: list[tuple[Array, Array]] = []
    row, first, end = runs.row, runs.start.astype(np.int64) + size, runs.end.astype(np.int64) + size
    while len(row):
        left, right = first % 2 == 1, end % 2 == 1
        covered += [(row[left], first[left]), (row[right], end[right] - 1)]
        first, end = (first + 1) // 2, end // 2
        open_ = first < end
        row, first, end = row[open_], first[open_], end[open_]
    rows, subtrees = zip(*covered, strict=True)
    return np.concatenate(rows), np.concatenate(subtrees)

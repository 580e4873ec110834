"""Orders tokens as nodes of a graph by reverse Cuthill-McKee, which brings tokens that attend each other together.

For patterns whose structure is in their inputs, such as the edges of a mesh. The order is a list of positions and no
expression, so it is only proposed: as the values of an input to order by.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from maskdsl.analysis.orders.layouts import Layout, laid_out, spaces_of, token
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.mask_tiles import tiles, tiles_with_pairs
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import CoordinateDefinition, Given
from maskdsl.ir.facts.reads import reads_lists
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Type

_MOST_TOKENS = 1 << 14
"""The longest sequence that is reordered, if no list has its edges."""
_MOST_LISTED = 1 << 19
"""The most edges, of all heads, and the most tokens, if lists of entries bound the attending pairs."""
_MOST_EDGES = 1 << 17
"""The most edges of one head. With more attended pairs, the nodes are blocks of consecutive tokens."""
_MOST_NODES = 512
"""The nodes of a graph of blocks. If it has too many edges as well, no order would make it sparse."""
NAME = "position"
"""The name of the input that holds the order."""
GRAPH = "graph"
"""The kind of these orders in the table."""


@dataclass(frozen=True, eq=False)
class Reordered:
    """The mask with one more input, the input's values, and the layout by it."""

    mask: MaskIR
    positions: Array
    """int32 [tokens]: the rank of each token."""
    layout: Layout


def reordered(mask: MaskIR, inputs: Mapping[str, Array], attended: float) -> Reordered | None:
    """The reordered mask, which has `attended` attended pairs over all heads.

    None for cross-attention, for a long sequence or dense graph, and if the name is taken.
    """
    sequence = mask.queries
    taken = sequence.definition(NAME) or mask.input(NAME) or any(space.axis(NAME) for space in sequence.spaces)
    if not mask.self_attention or taken:
        return None
    edges = _edges(laid_out(mask, {}), inputs, attended)
    positions = None if edges is None else _cuthill_mckee(sequence.length, *edges)
    if positions is None:
        return None
    dimension = Dimension(DimensionKind.TOKENS, sequence.length, "tokens")
    sources = tuple((space.name, Given(NAME)) for space in sequence.spaces)
    definition = CoordinateDefinition(NAME, Type.INT, sources)
    sequence = replace(sequence, coordinates=(*sequence.coordinates, definition))
    mask = replace(mask, queries=sequence, keys=sequence, inputs=(*mask.inputs, Input(NAME, Type.INT, (dimension,))))
    return Reordered(mask, positions, {name: (token(NAME),) for name in spaces_of(mask)})


def _edges(mask: MaskIR, inputs: Mapping[str, Array], attended: float) -> tuple[list[tuple[Array, Array]], int] | None:
    """The edges of each head class, and the tokens of a node; None for a long sequence or a dense graph."""
    length = mask.queries.length
    if length > (_MOST_LISTED if reads_lists(mask.relation) else _MOST_TOKENS):
        return None
    block = max(64, -(-length // _MOST_NODES))
    pairs = tiles_with_pairs(mask, (block, block), inputs)[1] if reads_lists(mask.relation) else (None,)
    listed = [(each.row, each.column) for each in pairs if each is not None]
    if len(listed) == len(pairs) and sum(len(row) for row, _ in listed) <= _MOST_LISTED:
        return listed, 1
    if length > _MOST_TOKENS:
        return None
    size = 1 if attended <= _MOST_EDGES * mask.heads else -(-length // _MOST_NODES)
    edges = []
    for head_class in tiles(mask, (size, size), inputs).head_classes:
        if head_class.full.count + head_class.partial.count > _MOST_EDGES:
            return None
        edges += [head_class.full.expand(), head_class.partial.expand()]
    return edges, size


def _cuthill_mckee(length: int, edges: Iterable[tuple[Array, Array]], size: int) -> Array:
    """int32 [tokens]: the rank of every token. Nodes are blocks of `size` tokens."""
    from networkx import Graph  # start-up time
    from networkx.utils import reverse_cuthill_mckee_ordering  # start-up time

    graph = Graph()
    graph.add_nodes_from(range(-(-length // size)))
    for row, column in edges:
        graph.add_edges_from(zip(row.tolist(), column.tolist(), strict=True))
    ranks = np.empty(len(graph), dtype=np.int32)
    ranks[list(reverse_cuthill_mckee_ordering(graph))] = np.arange(len(graph), dtype=np.int32)
    return np.repeat(ranks, size)[:length]

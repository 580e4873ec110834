"""Orders tokens as nodes of a graph by reverse Cuthill-McKee, which brings tokens that attend each other together.

For patterns whose structure is in their inputs, such as the edges of a mesh. The order is a list of positions and no
expression, so it is only proposed: as the values of an input to order by.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from maskdsl.analysis.orders.layouts import Layout, laid_out, spaces_of, token
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import CoordinateDefinition, Dimension, DimensionKind, Given, Input, MaskIR
from maskdsl.ir.ops import Type

_MOST_TOKENS = 1 << 14
"""The longest sequence that is reordered."""
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
    if not mask.self_attention or sequence.length > _MOST_TOKENS or taken:
        return None
    size = 1 if attended <= _MOST_EDGES * mask.heads else -(-sequence.length // _MOST_NODES)
    positions = _cuthill_mckee(laid_out(mask, {}), inputs, size)
    if positions is None:
        return None
    dimension = Dimension(DimensionKind.TOKENS, sequence.length, "tokens")
    sources = tuple((space.name, Given(NAME)) for space in sequence.spaces)
    definition = CoordinateDefinition(NAME, Type.INT, sources)
    sequence = replace(sequence, coordinates=(*sequence.coordinates, definition))
    mask = replace(mask, queries=sequence, keys=sequence, inputs=(*mask.inputs, Input(NAME, Type.INT, (dimension,))))
    return Reordered(mask, positions, {name: (token(NAME),) for name in spaces_of(mask)})


def _cuthill_mckee(mask: MaskIR, inputs: Mapping[str, Array], size: int) -> Array | None:
    """int32 [tokens]: the rank of every token; None for a dense graph. Nodes are blocks of `size` tokens."""
    from networkx import Graph  # start-up time
    from networkx.utils import reverse_cuthill_mckee_ordering

    length = mask.queries.length
    graph = Graph()
    graph.add_nodes_from(range(-(-length // size)))
    block_map = tiles(mask, (size, size), inputs)
    for head_class in block_map.head_classes:
        if head_class.full.count + head_class.partial.count > _MOST_EDGES:
            return None
        for runs in (head_class.full, head_class.partial):
            graph.add_edges_from(zip(*(each.tolist() for each in runs.expand()), strict=True))
    ranks = np.empty(len(graph), dtype=np.int32)
    ranks[list(reverse_cuthill_mckee_ordering(graph))] = np.arange(len(graph), dtype=np.int32)
    return np.repeat(ranks, size)[:length]

"""Tokens reordered as nodes of a graph: reverse Cuthill-McKee, which brings those that attend each other together.

A pattern whose structure is in its inputs, such as the edges of a mesh, has no other order. Such an order is a list of
positions and no expression, so that it is only proposed: as the values of an input to order by.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from maskdsl.analysis.orders.layouts import Layout, laid_out, spaces_of, token
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.mask import CoordinateDefinition, Dimension, DimensionKind, Given, Input, MaskIR
from maskdsl.ir.ops import Type

_MOST_TOKENS = 1 << 14
_MOST_EDGES = 1 << 17
"""Of one head. Where more tokens attend, the graph is one of stretches of equal length, which stay together."""
_MOST_NODES = 512
"""Of such a graph. If it has too many edges, too, it is left alone: no order would make it sparse."""
NAME = "position"
"""Of the input."""
GRAPH = "graph"
"""The kind of the order."""


@dataclass(frozen=True, eq=False)
class Reordered:
    """A mask with one more input, its values, and the layout by it."""

    mask: MaskIR
    positions: Array
    """int32 [tokens]"""
    layout: Layout


def reordered(mask: MaskIR, inputs: Mapping[str, Array], attended: float) -> Reordered | None:
    """For so many pairs that attend, of all heads. None where queries and keys differ, where the graph is large or
    dense, and where the name is taken.
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
    """int32 [tokens]: the position of every token; None for a dense graph. Its nodes are stretches of `size` tokens."""
    from networkx import Graph  # start-up time
    from networkx.utils import reverse_cuthill_mckee_ordering

    length = mask.queries.length
    graph = Graph()
    graph.add_nodes_from(range(-(-length // size)))
    found = tiles(mask, (size, size), inputs)
    for head_class in found.head_classes:
        if head_class.full.count + head_class.partial.count > _MOST_EDGES:
            return None
        for runs in (head_class.full, head_class.partial):
            graph.add_edges_from(zip(*(each.tolist() for each in runs.expand()), strict=True))
    ranks = np.empty(len(graph), dtype=np.int32)
    ranks[list(reverse_cuthill_mckee_ordering(graph))] = np.arange(len(graph), dtype=np.int32)
    return np.repeat(ranks, size)[:length]

"""How many keys of each group every query attends, exactly: full tiles by prefix sums, partial ones pair by pair."""

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, TileMap
from maskdsl.analysis.tiles.descent import Problem, chunks, cut
from maskdsl.analysis.tiles.trees import Tree

_TILES = 1 << 8
"""Partial tiles that are evaluated at once, to bound memory."""


def keys_by_group(problem: Problem, tiles: TileMap, groups: Array, count: int) -> Array:
    """int32 [queries, count], in memory order: the keys of each group that each query attends.

    `groups` [keys] is the group of each key, `count` for none.
    """
    query, key = problem.query, problem.key
    if problem.listed is not None:
        counts = np.zeros((query.length, count + 1), dtype=np.int32)
        np.add.at(counts, (problem.listed.row, groups[problem.listed.column]), 1)
        return counts[:, :count]
    group_of = np.append(groups, count)  # repeated keys are at -1 and have none
    counts = np.zeros((query.length, count), dtype=np.int32)
    _add_full(counts, problem, tiles, groups)
    nodes = query.nodes(query.bottom) // query.count, key.nodes(key.bottom) // key.count
    query_positions, key_positions = (_tokens_at(side) for side in (query, key))
    for batch in tiles.partial.batches(_TILES):
        rows, columns = cut(*batch, *nodes)
        for chunk in chunks(len(rows), problem.chunk(query.sizes[-1] * key.sizes[-1])):
            attended = problem.evaluate(query.points, key.points, rows[chunk], columns[chunk])
            attended = np.broadcast_to(attended, (len(attended), query.sizes[-1], key.sizes[-1]))
            pair, one, other = np.nonzero(attended)
            token = query_positions[rows[chunk][pair], one]
            group = group_of[key_positions[columns[chunk][pair], other]]
            real = (token >= 0) & (group < count)
            np.add.at(counts, (token[real], group[real]), 1)
    return counts


def _add_full(counts: Array, problem: Problem, tiles: TileMap, groups: Array) -> None:
    """Adds the keys of full tiles: for each run, the prefix sum at its end less that at its start."""
    count, size = counts.shape[1], problem.key.sizes[0]
    blocks = np.bincount(
        np.arange(len(groups)) // size * (count + 1) + groups, minlength=problem.key.count * (count + 1)
    ).reshape(-1, count + 1)[:, :count]
    before = np.concatenate([np.zeros((1, count), dtype=np.int64), np.cumsum(blocks, axis=0)])
    by_row = np.zeros((problem.query.count, count), dtype=np.int64)
    np.add.at(by_row, tiles.full.row, before[tiles.full.end] - before[tiles.full.start])
    counts += by_row[np.arange(len(counts)) // problem.query.sizes[0]].astype(np.int32)


def _tokens_at(side: Tree) -> Array:
    """The position of each token of the lowest level, [nodes, tokens]; -1 for repetitions."""
    if side.positions is None or side.real is None:
        return np.arange(side.length).reshape(-1, side.sizes[-1])
    return np.where(side.real, side.positions, -1)

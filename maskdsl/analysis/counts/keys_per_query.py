"""Exact keys per query: full tiles count by their width, partial ones are split down to single tokens."""

import numpy as np

from maskdsl.analysis.tiles.block_map import Array, Runs, TileMap
from maskdsl.analysis.tiles.descent import Problem, chunks, cut
from maskdsl.analysis.tiles.trees import Tree

_TILES = 1 << 12
"""Partial tiles that are split at once, to bound memory."""


def keys_per_query(problem: Problem, tiles: TileMap) -> Array:
    """int64 [queries], in memory order: the number of keys that each query attends."""
    if problem.listed is not None:
        return problem.listed.counts
    query = problem.query
    if not query.length:
        return np.zeros(0, dtype=np.int64)
    by_node = {level: np.zeros(query.nodes(level), dtype=np.int64) for level in range(query.bottom, 1)}
    by_position = np.zeros((query.nodes(query.bottom), query.sizes[-1]), dtype=np.int64)
    by_node[0] += keys_per_row(tiles.full, problem.key)
    for rows, columns in tiles.partial.batches(_TILES):
        _count_inside(problem, rows, columns, by_node, by_position)
    for counts in by_node.values():
        by_position += np.repeat(counts, by_position.size // len(counts)).reshape(by_position.shape)
    return by_position.reshape(-1) if query.real is None else by_position[query.real]


def keys_per_row(runs: Runs, key: Tree) -> Array:
    """int64 [rows]: the number of keys in the tiles of each row."""
    begin, end = (np.minimum(block.astype(np.int64) * key.sizes[0], key.length) for block in (runs.start, runs.end))
    return np.bincount(runs.row, weights=end - begin, minlength=runs.rows).astype(np.int64)


def _count_inside(problem: Problem, rows: Array, columns: Array, by_node: dict[int, Array], by_position: Array) -> None:
    """Adds the keys attended in these tiles to the counts of query nodes (by level) and of single queries."""
    query, key = problem.query, problem.key
    for query_level, key_level, *children in problem.steps:
        rows, columns = cut(rows, columns, *children)
        always, possible = problem.judge(query_level, key_level, rows, columns)
        weights, counts = key.weights(key_level)[columns[always]], by_node[query_level]
        counts += np.bincount(rows[always], weights=weights, minlength=len(counts)).astype(np.int64)
        still = possible & ~always
        rows, columns = rows[still], columns[still]
    for chunk in chunks(len(rows), problem.chunk(query.sizes[-1] * key.sizes[-1])):
        attended = problem.evaluate(query.points, key.points, rows[chunk], columns[chunk])
        attended = np.broadcast_to(attended, (len(attended), query.sizes[-1], key.sizes[-1]))
        if key.real is not None:
            attended = attended & key.real[columns[chunk]][:, None, :]
        np.add.at(by_position, rows[chunk], np.count_nonzero(attended, axis=2))

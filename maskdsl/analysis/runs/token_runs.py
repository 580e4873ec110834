"""The exact runs of keys of every single query, and of queries of every single key, without work on all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from maskdsl.analysis.runs.assembled_strips import assembled
from maskdsl.analysis.runs.refined_tiles import Pieces, refined
from maskdsl.analysis.tiles.block_map import Array, Runs, merge_segments
from maskdsl.analysis.tiles.descent import Problem
from maskdsl.analysis.tiles.head_classes import check_size, find_head_classes, problems
from maskdsl.analysis.tiles.interval_program import Column
from maskdsl.analysis.tiles.listed_pairs import ListedPairs
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs

_BLOCK = 1 << 10
"""Queries and keys of the tiles that are refined."""
_CROWDED = 1 << 4
"""With more partial tiles a row, pairs of equal columns are listed instead, if they are few."""


@dataclass(frozen=True, eq=False)
class TokenRuns:
    """For every query its runs of keys, in declared order, or for every key its runs of queries."""

    head_classes: tuple[Runs, ...]
    class_of_head: Array
    """int32 [heads]: index into `head_classes`."""

    def of_heads(self, values: Sequence[Array]) -> Array:
        """[1 or heads, ...]: what is given for each head class, once if all heads are of one."""
        if (self.class_of_head == self.class_of_head[0]).all():
            return np.asarray(values[self.class_of_head[0]])[None]
        return np.stack([values[number] for number in self.class_of_head])


def token_runs(mask: MaskIR, inputs: Mapping[str, object], batch: int = 0, side: Side = Side.QUERY) -> TokenRuns:
    """The runs of the tokens of a side, in one batch entry. Raises `AttnError` as `tiles` does."""
    mask, block = mask.declared, (_BLOCK, _BLOCK)
    check_size(mask, block)
    given = input_arrays(mask, inputs, relation_inputs(mask, inputs), batch + 1)
    head_classes = find_head_classes(mask, given, only=batch)
    solved = problems(mask, head_classes.different, block, given)
    different: list[Runs] = []
    numbers: list[int] = []
    for problem in solved:
        runs = _runs(problem if side is Side.QUERY else _transposed(problem))
        numbers.append(next((number for number, each in enumerate(different) if each == runs), len(different)))
        different += [runs] * (numbers[-1] == len(different))
    return TokenRuns(tuple(different), np.array(numbers, dtype=np.int32)[head_classes.index[0]])


def _transposed(problem: Problem) -> Problem:
    """The problem with queries for keys."""
    turned = {Side.QUERY: Side.KEY, Side.KEY: Side.QUERY}
    steps = tuple(
        replace(step, action=Column(turned[step.action.side], step.action.index))
        if isinstance(step.action, Column)
        else step
        for step in problem.program.steps
    )
    cover = None
    if problem.cover is not None:
        joins = (
            replace(join, query=join.key, key=join.query, is_transposed=not join.is_transposed)
            for join in problem.cover.joins
        )
        cover = replace(problem.cover, joins=tuple(joins))
    return Problem(replace(problem.program, steps=steps), problem.key, problem.query, cover)


def _runs(problem: Problem) -> Runs:
    query, key = problem.query, problem.key
    if not query.length or not key.length:
        return Runs.of_dense(np.zeros((query.length, 0), dtype=bool))
    if problem.listed is not None:
        return _of_pairs(problem.listed)
    tiles = classify(problem, hasty=True)
    if tiles.partial.count > _CROWDED * query.count and problem.equal is not None:
        return _of_pairs(problem.equal)
    return assembled(query, _merged(query, key, tiles.full, refined(problem, tiles.partial)))


def _of_pairs(pairs: ListedPairs) -> Runs:
    return Runs.of_sorted(len(pairs.counts), *merge_segments(pairs.row, pairs.column, pairs.column + 1))


def _merged(query: Tree, key: Tree, full: Runs, pieces: Pieces) -> Pieces:
    """The pieces and those of full tiles, sorted by strip and key; segments that touch are one."""
    strips = query.nodes(query.bottom) // query.count
    is_leaf = pieces.word > 0
    ends = (np.minimum(each.astype(np.int64) * key.sizes[0], key.length) for each in (full.start, full.end))
    strip = np.repeat(full.row.astype(np.int64) * strips, strips) + np.tile(np.arange(strips), len(full.row))
    whole = strip, *(np.repeat(each, strips) for each in ends)
    inside = (pieces.strip, pieces.start, pieces.end)
    pairs = zip(whole, inside, strict=True)
    segments = merge_segments(*(np.concatenate([some, each[~is_leaf]]) for some, each in pairs))
    pairs = zip(segments, inside, strict=True)
    strip, start, end = (np.concatenate([some, each[is_leaf]]) for some, each in pairs)
    word = np.concatenate([np.zeros(len(segments[0]), dtype=np.int64), pieces.word[is_leaf]])
    order = np.argsort(strip << 32 | start, kind="stable")  # of two sorted ones
    return Pieces(strip[order], start[order], end[order], word[order], pieces.words)

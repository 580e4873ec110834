"""The exact runs of keys of every single query, and of queries of every single key, without work on all pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

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

_BITS = np.arange(1 << 16, dtype=np.uint16)
_COUNTS = np.unpackbits(_BITS.view(np.uint8).reshape(-1, 2), axis=1).sum(axis=1, dtype=np.uint8)
"""uint8: the bits that are set in each word."""
_LOWEST = np.frexp((_BITS & -_BITS).astype(np.float32))[1].astype(np.int32) - 1
"""int32: the number of the lowest of them."""


@dataclass(frozen=True, eq=False)
class TokenRuns:
    """For every query its runs of keys, in declared order, or for every key its runs of queries."""

    head_classes: tuple[Runs, ...]
    class_of_head: Array
    """int32 [heads]: index into `head_classes`."""

    def of_heads(self, values: Sequence[Array]) -> Array:
        """[1 or heads, ...]: what is given for each head class, once if all heads are of one."""
        alike = (self.class_of_head == self.class_of_head[0]).all()
        return np.stack([values[number] for number in (self.class_of_head[:1] if alike else self.class_of_head)])


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
    return _assembled(query, _merged(query, key, tiles.full, refined(problem, tiles.partial)))


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
    order = np.argsort(strip << 32 | start)
    return Pieces(strip[order], start[order], end[order], word[order], pieces.words)


def _assembled(query: Tree, pieces: Pieces) -> Runs:
    """The runs of queries, of sorted pieces. They begin where the key before is not attended, and end likewise."""
    words = pieces.words[pieces.word]
    if query.real is not None:
        words *= query.real[pieces.strip]
    last = np.where(pieces.word > 0, pieces.end - pieces.start - 1, 0).astype(np.uint16)[:, None]
    touch = (pieces.strip[1:] == pieces.strip[:-1]) & (pieces.end[:-1] == pieces.start[1:])
    before, after = np.zeros_like(words), np.zeros_like(words)
    before[1:] = (words[:-1] >> last[:-1]) & touch[:, None]
    after[:-1] = (words[1:] & touch[:, None]) << last[:-1]
    first = np.where(pieces.word > 0, pieces.start, pieces.end - 1)
    row_start, start = _positions(query, pieces.strip, words & ~(words << np.uint16(1) | before), pieces.start)
    _, end = _positions(query, pieces.strip, words & ~(words >> np.uint16(1) | after), first)
    return Runs(row_start, start, end + 1)


def _positions(query: Tree, strip: Array, words: Array, first: Array) -> tuple[Array, Array]:
    """Where the keys of each query begin, and the keys of all, of words of bits; `first` is the key of bit 0."""
    more = words & (words - np.uint16(1))
    counts = _COUNTS[words] if more.any() else (words != 0).view(np.uint8)
    until = np.zeros((len(words) + 1, words.shape[1]), dtype=np.int32)
    np.cumsum(counts, axis=0, out=until[1:])
    strips = np.searchsorted(strip, np.arange(query.nodes(query.bottom) + 1))
    totals = np.diff(until[strips], axis=0)
    ends = np.cumsum(totals, dtype=np.int32).reshape(totals.shape)
    keys = np.empty(ends[-1, -1], dtype=np.int32)
    some = words != 0
    bits, offset = words[some], ((ends - totals - until[strips[:-1]])[strip] + until[:-1])[some]
    first = np.broadcast_to(first.astype(np.int32)[:, None], words.shape)[some]
    while len(bits):
        keys[offset] = first + _LOWEST[bits]
        bits = bits & (bits - np.uint16(1))
        left = bits != 0
        bits, offset, first = bits[left], offset[left] + 1, first[left]
    real = ends.reshape(-1) if query.real is None else ends[query.real]
    return np.concatenate([np.zeros(1, dtype=np.int32), real]), keys

"""The pieces of strips to the runs of every query. Strips whose pieces are alike, wherever they lie, are done once.

The runs of a strip begin and end at bits of its pieces, by number. Which ones follows from its *form*: the words of its
pieces, their widths, and which of them touch. So long rows of strips of one form take a few reads for each run.
"""

import numpy as np

from maskdsl.analysis.runs.refined_tiles import Pieces
from maskdsl.analysis.tiles.block_map import Array, Runs, ranges
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass

_SEED = 1
_WIDTH = 16
"""Bits of a word."""
_BITS = np.arange(1 << _WIDTH, dtype=np.uint16)
_COUNTS = np.unpackbits(_BITS.view(np.uint8).reshape(-1, 2), axis=1).sum(axis=1, dtype=np.uint8)
"""uint8: the bits that are set in each word."""
_LOWEST = np.frexp((_BITS & -_BITS).astype(np.float32))[1].astype(np.int32) - 1
"""int32: the number of the lowest of them."""


def assembled(query: Tree, pieces: Pieces) -> Runs:
    """The runs of queries, of pieces that are sorted by strip and key."""
    pieces, whole = _widened(pieces)
    strips = query.nodes(query.bottom)
    first = np.searchsorted(pieces.strip, np.arange(strips + 1))
    width = np.where(pieces.word < whole, 0, pieces.end - pieces.start)
    forms = _Forms.of(query, pieces, width, first)
    bits = _bits(query, pieces, width, first, forms.strips)
    counts = bits.counts[forms.number]
    total = counts.sum(axis=1, dtype=np.int64)
    before = np.cumsum(total) - total
    entry = np.repeat((bits.before[forms.number] - before).astype(np.int32), total)
    entry += np.arange(len(entry), dtype=np.int32)
    piece = np.repeat(first[:-1].astype(np.int32), total)
    start, end = pieces.start.astype(np.int32), pieces.end.astype(np.int32)
    last = np.where(width > 0, start, end - 1)
    starts, ends = (
        at[piece + number[entry]] + bit[entry]
        for at, number, bit in ((start, bits.first_piece, bits.first), (last, bits.last_piece, bits.last))
    )
    counts = counts.reshape(-1) if query.real is None else counts[query.real]
    row_start = np.zeros(len(counts) + 1, dtype=np.int32)
    np.cumsum(counts, out=row_start[1:])
    return Runs(row_start, starts, ends + 1)


@dataclass(frozen=True, eq=False)
class _Forms:
    """Strips of the same form."""

    strips: Array
    """One strip of each form."""
    number: Array
    """For each strip the number of its form."""

    @staticmethod
    def of(query: Tree, pieces: Pieces, width: Array, first: Array) -> "_Forms":
        """By hashes, which are then verified: if two forms had one hash, every strip would count as its own form."""
        counts = np.diff(first)
        touch = np.zeros(len(width), dtype=bool)
        touch[1:] = (pieces.strip[1:] == pieces.strip[:-1]) & (pieces.end[:-1] == pieces.start[1:])
        code = (pieces.word * (_WIDTH + 1) + width) * 2 + touch
        random = np.random.default_rng(_SEED)
        factors = random.integers(1, 1 << 62, max(1, int(counts.max(initial=0))))
        inside = np.arange(len(code)) - np.repeat(first[:-1], counts)
        sums = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(code * factors[inside])])
        hashes = np.diff(sums[first]) + counts
        if query.real is not None:
            hashes += query.real @ random.integers(1, 1 << 62, query.real.shape[1])
        _, strips, number = np.unique(hashes, return_index=True, return_inverse=True)
        like = strips[number]
        same = np.array_equal(counts[like], counts) and np.array_equal(
            code[ranges(first[like], first[like] + counts)], code
        )
        if not same or (query.real is not None and (query.real[like] != query.real).any()):
            strips = number = np.arange(len(counts))
        return _Forms(strips, number)


def _widened(pieces: Pieces) -> tuple[Pieces, int]:
    """The same, where leaves whose keys each query attends all or none of are joined, with each other and segments.

    And how many words are those of such pieces, of any width, in their lowest bit. These come first, and all differ.
    """
    words, number = _distinct_rows(pieces.words)
    masks, mask = _distinct_rows(np.concatenate([pieces.words[:1], (words > 0).astype(np.uint16)]))
    most = words.max(axis=1, initial=0)
    even = ((words == 0) | (words == most[:, None])).all(axis=1)
    word = number[pieces.word]
    every = (np.left_shift(1, np.minimum(pieces.end - pieces.start, _WIDTH)) - 1).astype(np.uint16)
    is_whole = (pieces.word == 0) | (even[word] & (most[word] == every))
    word = np.where(pieces.word == 0, mask[0], np.where(is_whole, mask[1:][word], len(masks) + word))
    joins = is_whole[1:] & is_whole[:-1] & (word[1:] == word[:-1]) & (pieces.strip[1:] == pieces.strip[:-1])
    first = np.ones(len(word), dtype=bool)
    first[1:] = ~(joins & (pieces.end[:-1] == pieces.start[1:]))
    ends = pieces.strip[first], pieces.start[first], pieces.end[np.roll(first, -1)]
    return Pieces(*ends, word[first], np.concatenate([masks, words])), len(masks)


def _distinct_rows(words: Array) -> tuple[Array, Array]:
    """The different rows, and the number of each row among them."""
    whole = np.ascontiguousarray(words).view(np.dtype((np.void, words.itemsize * words.shape[1])))[:, 0]
    first, number = np.unique(whole, return_index=True, return_inverse=True)[1:]
    return words[first], number


@dataclass(frozen=True, eq=False)
class _Bits:
    """Where the runs of some strips begin and end, strip by strip, query by query: a bit of a piece of the strip."""

    counts: Array
    """int32 [strips, queries]: the number of runs."""
    before: Array
    """int64 [strips]: the runs of all strips before."""
    first_piece: Array
    first: Array
    last_piece: Array
    last: Array


def _bits(query: Tree, pieces: Pieces, width: Array, first: Array, strips: Array) -> _Bits:
    """Runs begin where the key before is not attended, and end likewise."""
    lengths = (first[1:] - first[:-1])[strips]
    piece = ranges(first[strips], first[strips] + lengths)
    strip = np.repeat(np.arange(len(strips)), lengths)
    number = (piece - first[strips][strip]).astype(np.int32)
    start, end = pieces.start[piece], pieces.end[piece]
    words = pieces.words[pieces.word[piece]]
    if query.real is not None:
        words *= query.real[strips][strip]
    last = np.maximum(width[piece] - 1, 0).astype(np.uint16)[:, None]
    touch = ((strip[1:] == strip[:-1]) & (end[:-1] == start[1:]))[:, None]
    before, after = np.zeros_like(words), np.zeros_like(words)
    before[1:] = (words[:-1] >> last[:-1]) & touch
    after[:-1] = (words[1:] & touch) << last[:-1]
    of_strip = np.searchsorted(strip, np.arange(len(strips) + 1))
    counts, *begin = _set_bits(words & ~(words << np.uint16(1) | before), strip, of_strip, number)
    _, *until = _set_bits(words & ~(words >> np.uint16(1) | after), strip, of_strip, number)
    totals = counts.sum(axis=1, dtype=np.int64)
    return _Bits(counts, np.cumsum(totals) - totals, *begin, *until)


def _set_bits(words: Array, strip: Array, of_strip: Array, number: Array) -> tuple[Array, Array, Array]:
    """How many bits each query of each strip has, and the number of the piece and the bit of each."""
    until = np.zeros((len(words) + 1, words.shape[1]), dtype=np.int32)
    np.cumsum(_COUNTS[words], axis=0, out=until[1:])
    counts = np.diff(until[of_strip], axis=0)
    ends = np.cumsum(counts, dtype=np.int32).reshape(counts.shape)
    pieces, bits = (np.empty(ends[-1, -1] if ends.size else 0, dtype=np.int32) for _ in range(2))
    some = words != 0
    left, offset = words[some], ((ends - counts - until[of_strip[:-1]])[strip] + until[:-1])[some]
    piece = np.broadcast_to(number[:, None], words.shape)[some]
    while len(left):
        pieces[offset], bits[offset] = piece, _LOWEST[left]
        left = left & (left - np.uint16(1))
        more = left != 0
        left, offset, piece = left[more], offset[more] + 1, piece[more]
    return counts, pieces, bits

"""What tokens say, as digits of their position in memory: on grids, and in orders by axes, windows and curves.

A position is a number whose digits may have different sizes. On a grid `y[h], x[w]` its last digit is `x`; in an order
by `y // 8, x // 8` its first one is `y // 8`; with a curve inside of frames the frame is one, and `x` is none. Digits
are read off the values of all tokens, so that whatever lays tokens out like this has them, and nothing else.
"""

from functools import cached_property

import numpy as np

from maskdsl.analysis.tiles.head_classes import LaidOutTokens
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import Expression
from maskdsl.ir.facts.intervals import Array
from maskdsl.ir.facts.ranges import INT32
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates


@dataclass(frozen=True)
class DigitSum:
    """Of a token at a position: `start`, and `factor * (position // step)` for each (factor, step) of `terms`.

    A digit of some size is two terms, as `position // 8 % 4` is `position // 8 - 4 * (position // 32)`.
    """

    start: int
    terms: tuple[tuple[int, int], ...]


def digit_sum(values: Array) -> DigitSum | None:
    """The sum of digits of the index that these integers are, [tokens], all of them; None if they are none."""
    if not len(values) or int(values.min()) not in INT32 or int(values.max()) not in INT32:
        return None
    start, step, terms = int(values[0]), 1, []
    carried = 0  # by how much the digits so far rise where the next one rises by 1
    while len(values) > 1:
        rise = int(values[1]) - int(values[0])
        breaks = np.flatnonzero(np.diff(values) != rise)
        size = int(breaks[0]) + 1 if len(breaks) else len(values)
        index, firsts = np.arange(len(values)), values[::size]
        if not np.array_equal(values, firsts[index // size] + rise * (index % size)):
            return None
        if rise != carried:
            terms.append((rise - carried, step))
        carried, step, values = rise * size, step * size, firsts
    return DigitSum(start, tuple(terms))


def stretch_length(values: Array) -> int | None:
    """The length of stretches of [tokens, ...] in each of which tokens are equal, and to no others; None without them.

    The last stretch may be shorter.
    """
    breaks = np.flatnonzero((values[1:] != values[:-1]).any(axis=1)) + 1
    length = int(breaks[0]) if len(breaks) else len(values)
    if not length or not np.array_equal(breaks, np.arange(length, len(values), length)):
        return None
    firsts = values[::length]
    return length if len(np.unique(firsts, axis=0)) == len(firsts) else None


@dataclass(frozen=True, eq=False)
class TokenDigits:
    """Expressions over the tokens of one side of a mask, as digits of their position in memory."""

    mask: MaskIR
    sequence: Sequence

    @cached_property
    def tokens(self) -> LaidOutTokens:
        """The tokens in their order, which is the same for all heads and batch entries where `values` reads them."""
        return LaidOutTokens.of(Coordinates(self.mask, self.sequence, {}))

    def values(self, expression: Expression) -> Array | None:
        """Int64 [tokens]: an integer or truth value of each token, in memory; None if calls or heads decide them."""
        if not trace(self.sequence, [expression, *self.sequence.sort_keys]).is_fixed:
            return None
        return self.tokens.values(expression, {}).astype(np.int64)

    def of(self, expression: Expression) -> DigitSum | None:
        """An integer or truth value (0 or 1) of a token in digits; None if it is none, or calls or heads decide it."""
        values = self.values(expression)
        return None if values is None else digit_sum(values)

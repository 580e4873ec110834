"""Translations of a tile problem: so many query blocks and key blocks further on, pairs attend as they do here.

Over a period of blocks columns repeat, or rise by a constant: places in a frame repeat, and frames rise. The relation
does not see a rise that it reads as differences alone, as in `q.frame - k.frame`. Periods are guessed from hashes of
blocks; then every token is compared, so that what is found is exact.
"""

from collections.abc import Iterator
from math import gcd, lcm

import numpy as np

from maskdsl.analysis.tiles.interval_program import Column, IntervalProgram
from maskdsl.analysis.tiles.list_bounds import BoundedList
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Constant, Side
from maskdsl.ir.facts.intervals import Array
from maskdsl.ir.ops import COMPARISONS, Op

_Rise = tuple[int, int]
"""By how much a value rises over one period of the queries, and over one of the keys."""
Hashes = list[int]
"""A number for each block of one side but its last. Blocks that differ in what repeats mostly have different ones."""
Form = tuple[tuple[Column, int], ...]
"""A sum of columns, each with a factor that is not 0."""
_SEED = 1


@dataclass(frozen=True)
class Repeated:
    """A range of blocks of one side, each like the one a period later but for columns that rise."""

    first: int
    end: int
    period: int


@dataclass(frozen=True)
class Translation:
    """A tile of both ranges is of the class of the tile one period of both sides further on."""

    query: Repeated
    key: Repeated


def find_periods(query: Hashes, key: Hashes) -> tuple[int, int] | None:
    """The shortest period of the blocks of either side around its middle; None if one has none."""
    query_period, key_period = map(_period, (query, key))
    return None if query_period is None or key_period is None else (query_period, key_period)


def pieces_have_periods(query: Hashes, key: Hashes, least: int) -> bool:
    """Whether, of both sides cut into 2, 4, ... pieces, some have a period. Those of up to `least` tiles stay whole."""
    pieces = 2
    while 4 * len(query) * len(key) > least * pieces**2:
        if all(any(map(_period, _cut(side, pieces))) for side in (query, key)):
            return True
        pieces *= 2
    return False


def find_translation(program: IntervalProgram, query: Tree, key: Tree, periods: tuple[int, int]) -> Translation | None:
    """The translation of a problem by multiples of these periods; None if the relation sees them."""
    query_period, key_period = periods
    seen = seen_forms(program)
    if seen is None:
        return None
    rises = _column_rises(query, key, periods)
    must_be_none = {_rise(form, rises) for form in seen.forms}
    factors = _unseen_factors(must_be_none, query_period * query.sizes[0], key_period * key.sizes[0])
    if factors is None:
        return None
    query_period, key_period = query_period * factors[0], key_period * factors[1]
    queries, keys = _repeated(query, query_period), _repeated(key, key_period)
    if queries is None or keys is None:
        return None
    rises = _column_rises(query, key, (query_period, key_period))  # not always those of one period, so many times
    return None if any(sum(_rise(form, rises)) for form in seen.forms) else Translation(queries, keys)


# What a relation sees


@dataclass(frozen=True)
class Seen:
    """Sums that decide the result of a program, beside constants and tables."""

    compared: dict[int, Form]
    """Those that comparisons see, by step: they decide nothing where the comparison is decided."""
    others: frozenset[Form]

    @property
    def forms(self) -> frozenset[Form]:
        """All of them."""
        return self.others | {*self.compared.values()}


def seen_forms(program: IntervalProgram) -> Seen | None:
    """What the result of a program is decided by; None if lists of entries decide it."""
    seen: set[Form] = set()
    compared: dict[int, Form] = {}
    slots: list[Form] = []
    for number, step in enumerate(program.steps):
        arguments = [slots[slot] for slot in step.slots]
        match step.action:
            case BoundedList():
                return None
            case Column() as column:
                slots.append(((column, 1),))
                continue
            case Op.ADD:
                slots.append(_sum(*((each, 1) for each in arguments)))
                continue
            case Op.SUBTRACT:
                slots.append(_sum((arguments[0], 1), (arguments[1], -1)))
                continue
            case Op.NEGATE:
                slots.append(_sum((arguments[0], -1)))
                continue
            case Op.MINIMUM | Op.MAXIMUM:
                first, *others = arguments
                seen |= {_sum((each, 1), (first, -1)) for each in others}
                slots.append(first)
                continue
            case op if op in COMPARISONS:
                compared[number] = _sum((arguments[0], 1), (arguments[1], -1))
            case Constant():
                pass
            case _:
                seen |= {*arguments}
        slots.append(())
    return Seen(compared, frozenset((seen | {slots[-1]}) - {()}))


def _sum(*forms: tuple[Form, int]) -> Form:
    total: dict[Column, int] = {}
    for form, factor in forms:
        for column, times in form:
            total[column] = total.get(column, 0) + factor * times
    return tuple(sorted(((column, times) for column, times in total.items() if times), key=_by_column))


def _by_column(term: tuple[Column, int]) -> tuple[str, int]:
    column, _ = term
    return column.side.value, column.index


def _rise(form: Form, rises: dict[Column, _Rise]) -> _Rise:
    """By how much a sum rises: a rise that must be 0, or else the result may change."""
    queries, keys = (sum(times * rises[column][side] for column, times in form) for side in range(2))
    return queries, keys


def _unseen_factors(seen: set[_Rise], query_tokens: int, key_tokens: int) -> tuple[int, int] | None:
    """How many periods of the queries and of the keys together are not seen; as many tokens of both if any are not."""
    rises = seen - {(0, 0)}
    if not rises:
        tokens = lcm(query_tokens, key_tokens)
        return tokens // query_tokens, tokens // key_tokens
    a, b = next(iter(rises))
    if any(a * d != b * c for c, d in rises) or a * b >= 0:
        return None
    shared = gcd(a, b)
    return abs(b) // shared, abs(a) // shared


# Periods


def _blocks(tree: Tree, column: Array) -> Array:
    """[whole blocks, tokens]: a column in integers, bits of floats."""
    size = tree.sizes[0]
    whole = column[: tree.length // size * size]
    whole = whole.view(f"i{whole.itemsize}") if whole.dtype.kind == "f" else whole
    return whole.reshape(-1, size)


def block_hashes(tree: Tree) -> Hashes:
    """Of each block but the last, of what it has beyond its first token, and of the rise to the next block."""
    random = np.random.default_rng(_SEED)
    count = max(tree.length // tree.sizes[0] - 1, 0)
    hashes = np.zeros(count, dtype=np.int64)
    for column in tree.columns:
        blocks = _blocks(tree, column).astype(np.int64, copy=False)
        factors = random.integers(1, 1 << 62, tree.sizes[0])
        hashes += blocks[:count] @ factors
        if column.dtype.kind == "i":
            first = blocks[:, 0]
            hashes += np.diff(first) * random.integers(1, 1 << 62) - first[:count] * factors.sum()
    return hashes.tolist()


def _period(hashes: Hashes) -> int | None:
    """The shortest period of the middle half, which holds it twice; None if there is none."""
    middle = hashes[len(hashes) // 4 : len(hashes) - len(hashes) // 4]
    period = len(middle) - _longest_border(middle)
    return period if 0 < 2 * period <= len(middle) else None


def _cut(hashes: Hashes, pieces: int) -> Iterator[Hashes]:
    length = len(hashes) // pieces
    return (hashes[first : first + length] for first in range(0, len(hashes), max(length, 1)))


def _longest_border(numbers: Hashes) -> int:
    """The length of the longest proper beginning that is an ending too (Knuth, Morris and Pratt)."""
    borders, length = [0] * len(numbers), 0
    for at in range(1, len(numbers)):
        while length and numbers[at] != numbers[length]:
            length = borders[length - 1]
        length += numbers[at] == numbers[length]
        borders[at] = length
    return length


def _rises(tree: Tree, period: int) -> list[int]:
    """By how much each column rises over a period in the middle; floats and booleans do not."""
    first = tree.length // tree.sizes[0] // 4 * tree.sizes[0]
    last = first + period * tree.sizes[0]
    return [int(each[last]) - int(each[first]) if each.dtype.kind == "i" else 0 for each in tree.columns]


def _column_rises(query: Tree, key: Tree, periods: tuple[int, int]) -> dict[Column, _Rise]:
    """By how much every column rises over the period of its side."""
    rises = {Column(Side.QUERY, number): (rise, 0) for number, rise in enumerate(_rises(query, periods[0]))}
    return rises | {Column(Side.KEY, number): (0, rise) for number, rise in enumerate(_rises(key, periods[1]))}


def _repeated(tree: Tree, period: int) -> Repeated | None:
    """The longest range of blocks around the middle in which each is like the one a period later."""
    alike = np.ones(max(tree.length // tree.sizes[0] - period, 0), dtype=bool)
    middle = tree.length // tree.sizes[0] // 4
    if middle >= len(alike):
        return None
    for column, rise in zip(tree.columns, _rises(tree, period), strict=True):
        blocks = _blocks(tree, column)
        alike &= (blocks[period:] == (blocks[:-period] + rise if rise else blocks[:-period])).all(axis=1)
    if not alike[middle]:
        return None
    others = np.flatnonzero(~alike)
    after = int(np.searchsorted(others, middle))
    first = int(others[after - 1]) + 1 if after else 0
    end = int(others[after]) if after < len(others) else len(alike)
    return Repeated(first, end + period, period)

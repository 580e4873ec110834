"""Fits formulas in integer parameters to exact counts, and checks them against further counts.

Counts are made at small settings of the parameters. A linear combination of terms (powers of the parameters, perhaps
with a logarithm of a length, or divided by another parameter) is solved for in exact fractions. It is kept only if it
also gives the counts at settings that it was not solved from, and at the caller's setting. That is evidence, not a
proof: the formula is exact where it was checked, and `where` says where that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import product
from math import lcm, prod
from random import Random
from typing import Any

import sympy
from sympy.polys.matrices import DomainMatrix

from maskdsl.base.records import dataclass

Settings = Mapping[str, int]
Counts = tuple[int, ...]
"""Exact numbers at one setting, one for each formula."""
Count = Callable[[Settings], Counts | None]
"""None if a setting is not valid."""

_MOST_PARAMETERS = 3
_MOST_TERMS = 40
_LARGEST_PERIOD = 8192
_MOST_TOKENS = 1 << 19
"""The most tokens of all settings that a formula is solved from."""
_FURTHER = 6
"""Settings that a formula is checked against, beside those that it is solved from; at least half as many."""


@dataclass(frozen=True)
class _FormulaTerm:
    """A product of powers of parameters, and of the base-2 logarithm of one of them."""

    powers: tuple[tuple[str, int], ...]
    logarithm: str | None = None

    def at(self, settings: Settings) -> Fraction:
        """The value at a setting."""
        value = prod((Fraction(settings[name]) ** power for name, power in self.powers), start=Fraction(1))
        return value if self.logarithm is None else value * (settings[self.logarithm].bit_length() - 1)

    @property
    def expression(self) -> Any:
        """The term in sympy."""
        value = prod((symbol(name) ** power for name, power in self.powers), start=sympy.Integer(1))
        return value if self.logarithm is None else value * sympy.Function("log2")(symbol(self.logarithm))


@dataclass(frozen=True)
class _Scheme:
    """The terms of a formula, and the settings to solve and check it at."""

    terms: tuple[_FormulaTerm, ...]
    settings: tuple[Settings, ...]
    where: str
    """The condition that the settings fulfil, in words; empty if there is none."""

    def is_worth_trying(self, lengths: tuple[str, ...]) -> bool:
        """Whether settings are left to check the formula, and counting at all of them is fast."""
        tokens = sum(prod(settings[name] for name in lengths) for settings in self.settings)
        enough = len(self.settings) >= len(self.terms) + _FURTHER // 2
        return enough and len(self.terms) <= _MOST_TERMS and tokens <= _MOST_TOKENS


_Terms = dict[_FormulaTerm, Any]
"""The nonzero factor of each term, a sympy number."""


@dataclass(frozen=True)
class Formulas:
    """One formula, a sympy expression, for each of the counts."""

    expressions: tuple[Any, ...]
    where: str
    """The condition on parameters under which they hold, in words; empty if there is none."""
    checked: int
    """The number of settings at which all formulas are exact."""


def formulas(target: Settings, lengths: tuple[str, ...], count: Count) -> Formulas | None:
    """Formulas of the counts that are exact at `target` too; None if none fit.

    `target` has the values of all parameters; `lengths` names those that grow without bound.
    """
    count = _cached(count)
    expected = count(target)
    if expected is None or not lengths:
        return None
    for scheme in _schemes(target, lengths):
        solved = _solved(scheme, count) if scheme.is_worth_trying(lengths) else None
        if solved is not None and [_value(terms, target) for terms in solved] == list(expected):
            return Formulas(tuple(map(_expression, solved)), scheme.where, len(scheme.settings) + 1)
    return None


def symbol(name: str) -> Any:
    """The sympy symbol of a parameter."""
    return sympy.Symbol(name, positive=True)


def _cached(count: Count) -> Count:
    known: dict[tuple[tuple[str, int], ...], Counts | None] = {}

    def counted(settings: Settings) -> Counts | None:
        key = tuple(sorted(settings.items()))
        if key not in known:
            known[key] = count(settings)
        return known[key]

    return counted


def _solved(scheme: _Scheme, count: Count) -> tuple[_Terms, ...] | None:
    """The terms of each count by exact elimination; None if no factors give the counts at all settings."""
    rows = []
    for settings in scheme.settings:
        counts = count(settings)
        if counts is None:
            return None
        rows.append([_to_sympy(term.at(settings)) for term in scheme.terms] + [sympy.Integer(each) for each in counts])
    width = len(scheme.terms)
    reduced, pivots = DomainMatrix.from_list_sympy(len(rows), len(rows[0]), rows).to_field().rref()
    if pivots != tuple(range(width)):
        return None
    columns = reduced.to_Matrix()[:width, width:].T.tolist()
    return tuple(
        {term: factor for term, factor in zip(scheme.terms, factors, strict=True) if factor} for factors in columns
    )


def _value(terms: _Terms, settings: Settings) -> Any:
    return sum((factor * _to_sympy(term.at(settings)) for term, factor in terms.items()), start=sympy.Integer(0))


def _expression(terms: _Terms) -> Any:
    return sum((factor * term.expression for term, factor in terms.items()), start=sympy.Integer(0))


def _to_sympy(number: Fraction) -> Any:
    return sympy.Rational(number.numerator, number.denominator)


def _schemes(target: Settings, lengths: tuple[str, ...]) -> Iterator[_Scheme]:
    """Yields schemes from most parameters to lengths only; parameters that are left out keep their values."""
    others = tuple(name for name in target if name not in lengths)
    most = max(0, _MOST_PARAMETERS - len(lengths))
    chosen = dict.fromkeys([others[:most], *((name,) for name in others), ()])
    for shapes in chosen:
        yield from _schemes_of(target, lengths, shapes)


def _schemes_of(target: Settings, lengths: tuple[str, ...], shapes: tuple[str, ...]) -> Iterator[_Scheme]:
    """Yields schemes in the lengths and in `shapes`: polynomials, then quotients, then logarithms."""
    ranked = sorted(shapes, key=lambda name: target[name])
    rest = {name: number for name, number in target.items() if name not in lengths and name not in shapes}
    near = {name: tuple(each + target[name] % 2 for each in range(4, 14, 2)) for name in shapes}
    near = {name: tuple(each + 16 * ranked.index(name) for each in near[name]) for name in shapes}
    yield _scheme(_powers(lengths, shapes, least=0), {**_line(lengths, near, rest, 1), **near}, rest, "")
    blocks = {
        name: tuple(4 ** ranked.index(name) * each for each in _divisors(target[name], len(lengths))) for name in shapes
    }
    fixed = [max(1, abs(each)) for each in rest.values()]
    common = lcm(*(each for values in blocks.values() for each in values))
    for period in dict.fromkeys([lcm(common, *fixed), common * prod(fixed)]):
        if 1 < period <= _LARGEST_PERIOD:
            whole = {**_line(lengths, blocks, rest, period), **blocks}
            least = -1 if len(lengths) == 1 else 0
            yield _scheme(_powers(lengths, shapes, least), whole, rest, "where whole blocks fill the lengths")
    if len(lengths) == 1 and not shapes:
        (length,) = lengths
        start = max(5, (2 * max(fixed, default=1)).bit_length())
        doubled = {length: tuple(1 << exponent for exponent in range(start, start + 6 + _FURTHER))}
        logarithmic = tuple(_FormulaTerm(((length, power),), name) for power in (0, 1, 2) for name in (None, length))
        yield _scheme(logarithmic, doubled, rest, f"where {length} is a power of two")


def _divisors(number: int, lengths: int) -> tuple[int, ...]:
    """Small values for a parameter, with a small common multiple and the parity of its value; fewer for two lengths."""
    if lengths > 1:
        return (3, 5, 15) if number % 2 else (2, 4, 8)
    return (3, 5, 9, 15, 45) if number % 2 else (2, 4, 6, 8, 12)


def _line(
    lengths: tuple[str, ...], sizes: Mapping[str, tuple[int, ...]], rest: Settings, period: int
) -> dict[str, tuple[int, ...]]:
    """Values of the lengths, beyond all other parameters: multiples of the period, or unrelated numbers if it is 1."""
    largest = max([*rest.values(), *(max(each) for each in sizes.values())], default=1)
    factor, least, step = (3, 24, 5) if len(lengths) == 1 else (2, 12, 1)
    first = -(-max(factor * largest, least) // period)
    step = step if period == 1 else 1
    return {
        name: tuple(period * (first + step * number + at * (period == 1)) for number in range(7))
        for at, name in enumerate(lengths)
    }


def _powers(lengths: tuple[str, ...], shapes: tuple[str, ...], least: int) -> tuple[_FormulaTerm, ...]:
    """All products of powers from 0 to 2 of lengths, and from `least` to 2 of `shapes`."""
    names = (*lengths, *shapes)
    choices = [range(3)] * len(lengths) + [range(least, 3)] * len(shapes)
    return tuple(
        _FormulaTerm(tuple((name, power) for name, power in zip(names, each, strict=True) if power))
        for each in product(*choices)
    )


def _scheme(
    terms: tuple[_FormulaTerm, ...], values: Mapping[str, tuple[int, ...]], rest: Settings, where: str
) -> _Scheme:
    """A scheme with enough settings for its terms, sampled from all combinations of the values."""
    needed = len(terms) + _FURTHER
    everything = [{**dict(zip(values, each, strict=True)), **rest} for each in product(*values.values())]
    return _Scheme(terms, tuple(Random(0).sample(everything, min(needed, len(everything)))), where)

"""Formulas in whole parameters through exact counts, checked against further ones.

Counts are made at small settings of the parameters. A sum of terms (powers of the parameters, perhaps with a logarithm
of a length, or divided by another parameter) through all of them is then solved for in exact fractions. It is kept only
if it also gives the counts at settings that it was not made from, and at those that the caller wants. That is evidence,
not a proof: the formula is exact where it was checked, and says where that is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import lcm, prod
from random import Random
from typing import Any

import sympy
from sympy.polys.matrices import DomainMatrix

Settings = Mapping[str, int]
Counts = tuple[int, ...]
"""Several exact numbers at one setting."""
Count = Callable[[Settings], Counts | None]
"""None where a setting has no meaning."""

_MOST_PARAMETERS = 3
_MOST_TERMS = 40
_LARGEST_PERIOD = 8192
_MOST_TOKENS = 1 << 19
"""Of all settings that a formula is made from."""
_FURTHER = 6
"""Settings that a formula is checked against, besides those that it is made from; half as many where there are no
more."""


@dataclass(frozen=True)
class _FormulaTerm:
    """A product of powers of parameters, and of the base-2 logarithm of one of them."""

    powers: tuple[tuple[str, int], ...]
    logarithm: str | None = None

    def at(self, settings: Settings) -> Fraction:
        value = prod((Fraction(settings[name]) ** power for name, power in self.powers), start=Fraction(1))
        return value if self.logarithm is None else value * (settings[self.logarithm].bit_length() - 1)

    @property
    def expression(self) -> Any:
        value = prod((symbol(name) ** power for name, power in self.powers), start=sympy.Integer(1))
        return value if self.logarithm is None else value * sympy.Function("log2")(symbol(self.logarithm))


@dataclass(frozen=True)
class _Scheme:
    """The kind of formula that is looked for, and at which settings."""

    terms: tuple[_FormulaTerm, ...]
    settings: tuple[Settings, ...]
    where: str
    """Which settings these are, in words; empty where any may do."""

    def is_worth_trying(self, lengths: tuple[str, ...]) -> bool:
        """There are settings left to check a formula, and counting them takes no long time."""
        tokens = sum(prod(settings[name] for name in lengths) for settings in self.settings)
        enough = len(self.settings) >= len(self.terms) + _FURTHER // 2
        return enough and len(self.terms) <= _MOST_TERMS and tokens <= _MOST_TOKENS


_Terms = dict[_FormulaTerm, Any]
"""The factor of each term, a sympy number that is not zero."""


@dataclass(frozen=True)
class Formulas:
    """One sympy expression for each of the counts."""

    expressions: tuple[Any, ...]
    where: str
    """For which values of the parameters, in words; empty where none were special."""
    checked: int
    """Settings at which all of them were found to be exact."""


def formulas(own: Settings, lengths: tuple[str, ...], count: Count) -> Formulas | None:
    """Those that give the counts in general, and at `own`; None if none were found.

    `own` are the values of all parameters, and `lengths` those that grow without bound.
    """
    count = _cached(count)
    expected = count(own)
    if expected is None or not lengths:
        return None
    for scheme in _schemes(own, lengths):
        found = _solved(scheme, count) if scheme.is_worth_trying(lengths) else None
        if found is not None and [_value(terms, own) for terms in found] == list(expected):
            return Formulas(tuple(map(_expression, found)), scheme.where, len(scheme.settings) + 1)
    return None


def symbol(name: str) -> Any:
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
    """The terms of each count; None where no factors give all of them."""
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


def _schemes(own: Settings, lengths: tuple[str, ...]) -> Iterator[_Scheme]:
    """From formulas in several parameters to those in the lengths alone; the others keep their values then."""
    others = tuple(name for name in own if name not in lengths)
    most = max(0, _MOST_PARAMETERS - len(lengths))
    chosen = dict.fromkeys([others[:most], *((name,) for name in others), ()])
    for shapes in chosen:
        yield from _schemes_of(own, lengths, shapes)


def _schemes_of(own: Settings, lengths: tuple[str, ...], shapes: tuple[str, ...]) -> Iterator[_Scheme]:
    """Formulas in the lengths and in these other parameters: polynomials, then fractions, then logarithms."""
    ranked = sorted(shapes, key=lambda name: own[name])
    rest = {name: number for name, number in own.items() if name not in lengths and name not in shapes}
    near = {name: tuple(each + own[name] % 2 for each in range(4, 14, 2)) for name in shapes}
    near = {name: tuple(each + 16 * ranked.index(name) for each in near[name]) for name in shapes}
    yield _scheme(_powers(lengths, shapes, least=0), {**_line(lengths, near, rest, 1), **near}, rest, "")
    blocks = {
        name: tuple(4 ** ranked.index(name) * each for each in _divisors(own[name], len(lengths))) for name in shapes
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
        doubled = {length: tuple(1 << at for at in range(start, start + 6 + _FURTHER))}
        logarithmic = tuple(_FormulaTerm(((length, power),), name) for power in (0, 1, 2) for name in (None, length))
        yield _scheme(logarithmic, doubled, rest, f"where {length} is a power of two")


def _divisors(number: int, lengths: int) -> tuple[int, ...]:
    """Small numbers with a small common multiple, odd ones in place of an odd one. Fewer where lengths multiply."""
    if lengths > 1:
        return (3, 5, 15) if number % 2 else (2, 4, 8)
    return (3, 5, 9, 15, 45) if number % 2 else (2, 4, 6, 8, 12)


def _line(
    lengths: tuple[str, ...], sizes: Mapping[str, tuple[int, ...]], rest: Settings, period: int
) -> dict[str, tuple[int, ...]]:
    """Lengths beyond what other parameters reach: so many periods, or without one numbers with nothing in common."""
    largest = max([*rest.values(), *(max(each) for each in sizes.values())], default=1)
    factor, least, step = (3, 24, 5) if len(lengths) == 1 else (2, 12, 1)
    first = -(-max(factor * largest, least) // period)
    step = step if period == 1 else 1
    return {
        name: tuple(period * (first + step * number + at * (period == 1)) for number in range(7))
        for at, name in enumerate(lengths)
    }


def _powers(lengths: tuple[str, ...], shapes: tuple[str, ...], least: int) -> tuple[_FormulaTerm, ...]:
    """All products of powers of lengths from 0 to 2, and of the other parameters from `least` on."""
    names = (*lengths, *shapes)
    choices = [range(3)] * len(lengths) + [range(least, 3)] * len(shapes)
    return tuple(
        _FormulaTerm(tuple((name, power) for name, power in zip(names, each, strict=True) if power))
        for each in product(*choices)
    )


def _scheme(
    terms: tuple[_FormulaTerm, ...], values: Mapping[str, tuple[int, ...]], rest: Settings, where: str
) -> _Scheme:
    """Settings enough for the terms, spread over all that the values allow."""
    wanted = len(terms) + _FURTHER
    everything = [{**dict(zip(values, each, strict=True)), **rest} for each in product(*values.values())]
    return _Scheme(terms, tuple(Random(0).sample(everything, min(wanted, len(everything)))), where)

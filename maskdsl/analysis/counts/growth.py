"""What a pattern costs as its lengths grow: formulas in its parameters, by `formulas.py` from exact counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sympy

from maskdsl.analysis.counts.formulas import Counts, Settings, formulas, symbol
from maskdsl.analysis.counts.stats import stats
from maskdsl.base.diagnostics import AttnError
from maskdsl.bind import bind
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.simplify import head_classes
from maskdsl.syntax.program import Program

_BLOCK = 16, 128
"""Tokens of a tile for few and for many tokens: counts are the same with any."""
_MANY_TOKENS = 4096


@dataclass(frozen=True)
class Growth:
    """sympy expressions in the parameters of a pattern."""

    queries: Any
    keys: Any
    pairs: Any
    """Those that attend."""
    heads: int
    """So many heads are counted: 1 where all are alike."""
    lengths: tuple[str, ...]
    """Parameters that the numbers of queries and keys grow with."""
    where: str
    """For which values of the parameters, in words; empty where none were special."""
    checked: int
    """Settings at which all three were found to be exact."""

    @property
    def keys_per_query(self) -> Any:
        return sympy.expand(sympy.cancel(self.pairs / self.queries / self.heads))

    @property
    def density(self) -> Any:
        return sympy.factor(sympy.cancel(self.pairs / self.queries / self.keys / self.heads))

    @property
    def order(self) -> Any:
        """The terms that grow fastest as all lengths grow alike, without their factors."""
        scale = sympy.Symbol("scale", positive=True)
        grown = {symbol(name): scale * symbol(name) for name in self.lengths}
        parts = [(self.degree(term, grown, scale), term) for term in sympy.Add.make_args(sympy.expand(self.pairs))]
        highest = max(degree for degree, _ in parts)
        leading = [term.as_coeff_Mul()[1] for degree, term in parts if degree == highest]
        kept = [a for a in leading if not any(a != b and _dominates(b, a) for b in leading)]
        return sympy.Add(*kept)

    def degree(self, term: Any, grown: Mapping[Any, Any], scale: Any) -> tuple[int, int]:
        logarithms = sum(part.func.__name__ == "log2" for part in sympy.Mul.make_args(term))
        powers = sympy.Mul(*(part for part in sympy.Mul.make_args(term) if part.func.__name__ != "log2"))
        return int(sympy.degree(sympy.expand(powers.subs(grown, simultaneous=True)), scale)), logarithms


def _dominates(greater: Any, less: Any) -> bool:
    """One term is the other times a polynomial."""
    quotient = sympy.cancel(greater / less)
    return bool(quotient.free_symbols) and not sympy.denom(quotient).free_symbols


def growth(program: Program, mask: MaskIR) -> Growth | None:
    """The formulas of a bound pattern; None if none were found, or where inputs decide which pairs attend."""
    if relation_inputs(mask):
        return None
    own = {name: value for name, value in mask.parameters if isinstance(value, int) and not isinstance(value, bool)}
    fixed = {name: value for name, value in mask.parameters if name not in own}
    heads = mask.heads if len(head_classes(mask.relation, mask.heads)[0]) > 1 else 1

    def bound(settings: Settings) -> MaskIR | None:
        try:
            return bind(program, mask.name, {**fixed, **settings}, heads)
        except AttnError:
            return None

    def count(settings: Settings) -> Counts | None:
        there = bound(settings)
        if there is None:
            return None
        size = _BLOCK[max(there.queries.length, there.keys.length) > _MANY_TOKENS]
        return there.queries.length, there.keys.length, stats(there, (size, size)).total.attended

    def is_length(name: str) -> bool:
        more = bound({**own, name: 2 * own[name]})
        return more is not None and (more.queries.length > mask.queries.length or more.keys.length > mask.keys.length)

    lengths = tuple(name for name in own if is_length(name))
    found = formulas(own, lengths, count)
    if found is None:
        return None
    queries, keys, pairs = found.expressions
    return Growth(queries, keys, pairs, heads, lengths, found.where, found.checked)

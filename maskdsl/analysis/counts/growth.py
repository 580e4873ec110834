"""How the cost of a pattern grows with its parameters: formulas, fitted by `formulas.py` to exact counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sympy

from maskdsl.analysis.counts.formulas import Counts, Settings, formulas, symbol
from maskdsl.analysis.counts.stats import stats
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.records import dataclass
from maskdsl.bind import bind
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.simplify import head_classes
from maskdsl.syntax.program import Program

_BLOCK = 16, 128
"""Tokens of a tile, for short and for long sequences. Counts do not depend on it."""
_MANY_TOKENS = 4096


@dataclass(frozen=True)
class Growth:
    """The formulas of a pattern: sympy expressions in its parameters."""

    queries: Any
    keys: Any
    pairs: Any
    """Attended pairs, over `heads` heads."""
    heads: int
    """Heads that `pairs` sums over: 1 if all are alike."""
    lengths: tuple[str, ...]
    """Parameters that increase the number of queries or keys."""
    where: str
    """The condition on parameters under which the formulas hold, in words; empty if there is none."""
    checked: int
    """The number of settings at which all three formulas were checked to be exact."""

    @property
    def keys_per_query(self) -> Any:
        """Mean keys per query."""
        return sympy.expand(sympy.cancel(self.pairs / self.queries / self.heads))

    @property
    def density(self) -> Any:
        """The share of pairs that attend."""
        return sympy.factor(sympy.cancel(self.pairs / self.queries / self.keys / self.heads))

    @property
    def order(self) -> Any:
        """The fastest growing terms of `pairs`, without constant factors, as all lengths grow in proportion."""
        scale = sympy.Symbol("scale", positive=True)
        grown = {symbol(name): scale * symbol(name) for name in self.lengths}
        terms = [(self.degree(term, grown, scale), term) for term in sympy.Add.make_args(sympy.expand(self.pairs))]
        largest = max(degree for degree, _ in terms)
        leading = [term.as_coeff_Mul()[1] for degree, term in terms if degree == largest]
        kept = [a for a in leading if not any(a != b and _dominates(b, a) for b in leading)]
        return sympy.Add(*kept)

    def degree(self, term: Any, grown: Mapping[Any, Any], scale: Any) -> tuple[int, int]:
        """The degree of a term in the scale of all lengths, and its number of logarithms."""
        logarithms = sum(factor.func.__name__ == "log2" for factor in sympy.Mul.make_args(term))
        powers = sympy.Mul(*(factor for factor in sympy.Mul.make_args(term) if factor.func.__name__ != "log2"))
        return int(sympy.degree(sympy.expand(powers.subs(grown, simultaneous=True)), scale)), logarithms


def _dominates(greater: Any, less: Any) -> bool:
    """Whether the first term is the second times a nonconstant polynomial."""
    quotient = sympy.cancel(greater / less)
    return bool(quotient.free_symbols) and not sympy.denom(quotient).free_symbols


def growth(program: Program, mask: MaskIR) -> Growth | None:
    """The formulas of a bound pattern; None if no formula fits, or inputs decide which pairs attend."""
    if relation_inputs(mask):
        return None
    sizes = {name: value for name, value in mask.parameters if isinstance(value, int) and not isinstance(value, bool)}
    fixed = {name: value for name, value in mask.parameters if name not in sizes}
    heads = mask.heads if len(head_classes(mask.relation, mask.heads)[0]) > 1 else 1

    def bound(settings: Settings) -> MaskIR | None:
        try:
            return bind(program, mask.name, {**fixed, **settings}, heads)
        except AttnError:
            return None

    def count(settings: Settings) -> Counts | None:
        other = bound(settings)
        if other is None:
            return None
        size = _BLOCK[max(other.queries.length, other.keys.length) > _MANY_TOKENS]
        return other.queries.length, other.keys.length, stats(other, (size, size)).total.seen

    def is_length(name: str) -> bool:
        doubled = bound({**sizes, name: 2 * sizes[name]})
        return doubled is not None and (
            doubled.queries.length > mask.queries.length or doubled.keys.length > mask.keys.length
        )

    lengths = tuple(name for name in sizes if is_length(name))
    fitted = formulas(sizes, lengths, count)
    if fitted is None:
        return None
    queries, keys, pairs = fitted.expressions
    return Growth(queries, keys, pairs, heads, lengths, fitted.where, fitted.checked)

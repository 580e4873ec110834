"""Scores that are the product of query and key, perhaps with a soft cap, plus a bias of the pair's positions.

Other scores are arithmetic of terms: see `score_terms.py`.
"""

from collections.abc import Iterator

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import (
    Apply,
    Constant,
    Expression,
    Read,
    Score,
    children,
    substitute,
    walk,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import token_trace
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.ops import Op
from maskdsl.ir.rewrites.score_terms import reads_tables_of_tokens


@dataclass(frozen=True)
class ScoreBias:
    """Final scores are `cap * tanh(s / cap)`, or s without a cap, plus the value of all score lines at s = 0."""

    cap: float
    """0: none."""
    positions: tuple[Expression, ...]
    """Values of pairs, from positions alone: where all of them are equal, so is the bias of a head."""


def score_bias(mask: MaskIR) -> ScoreBias | None:
    """The cap and the bias of a mask's scores; None for other forms, and if they read what a call gives of tokens.

    Then there is one softmax for each query, a constant scale, and no weight.
    """
    if (
        mask.normalize is not Normalize.BY_QUERY
        or mask.weight is not None
        or not isinstance(mask.scale, Constant | None)
    ):
        return None
    score: Expression = Score()
    for each in mask.scores:
        score = substitute(each, {Score(): score})
    cap = _cap(score)
    made = {each.name for each in (*mask.routed, *mask.products)}
    tables = [each for each in walk(score) if isinstance(each, Read)]
    if cap is None or reads_tables_of_tokens(score) or any(each.sparse or each.input in made for each in tables):
        return None
    positions = tuple(dict.fromkeys(values_of_positions(score)))
    given = token_trace(mask, reads(score).coordinates).inputs
    return None if given else ScoreBias(cap, positions)


def _reads_score(expression: Expression) -> bool:
    return reads(expression).score


def _cap(score: Expression) -> float | None:
    """The cap of a sum whose other terms do not read the score, 0 without one; None for other expressions."""
    match score:
        case Score():
            return 0.0
        case Apply(op=Op.ADD, arguments=(one, other)) if not (_reads_score(one) and _reads_score(other)):
            return _cap(one if _reads_score(one) else other)
        case Apply(op=Op.SUBTRACT, arguments=(one, other)) if not _reads_score(other):
            return _cap(one)
        case Apply(op=Op.SELECT, arguments=(condition, one, other)) if not _reads_score(condition):
            caps = {_cap(one), _cap(other)}
            return caps.pop() if len(caps) == 1 else None
        case (
            Apply(op=Op.MULTIPLY, arguments=(Constant(value=cap), Apply(op=Op.TANH, arguments=(inner,))))
            | Apply(op=Op.MULTIPLY, arguments=(Apply(op=Op.TANH, arguments=(inner,)), Constant(value=cap)))
        ):
            divided = inner == Apply(Op.DIVIDE, (Score(), Constant(cap)))
            return float(cap) if divided and cap > 0 else None
        case _:
            return None


def values_of_positions(expression: Expression) -> Iterator[Expression]:
    """The largest parts of an expression that read positions alone."""
    read = reads(expression)
    if not (read.inputs or read.head or read.batch or read.score):
        if read.leaves:
            yield expression
        return
    for each in children(expression):
        yield from values_of_positions(each)

"""What `q`, `k` and `head` stand for in a frame."""

from maskdsl.base.errors.language.names import NoPairHere
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import Bad, Term
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.ir.expressions import Constant, Expression, Head, Side, apply
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.heads import Heads
from maskdsl.ir.ops import Op


def head_number(heads: Heads, span: Span | None = None) -> Term:
    """The number of the head, counted in the whole attention."""
    here: Expression = Head(span=span)
    if heads.first:
        here = apply(Op.ADD, here, Constant(heads.first, span=span), span=span)
    return Term(here, Range(heads.first, heads.first + heads.count - 1))


def side_of(name: str, span: Span, frame: Frame) -> Side | Bad:
    """The side of `q` or `k`; reports it if there is no pair here."""
    match frame.statement:
        case (
            StatementKind.PAIR | StatementKind.VALUE | StatementKind.VECTOR | StatementKind.SCORE | StatementKind.ROUTE
        ):
            return Side.QUERY if name == "q" else Side.KEY
        case StatementKind.TOKEN:
            hint = "this is about one token: write its coordinates as bare names"
        case StatementKind.CONSTANT:
            hint = "this must be known before the tokens are"
        case StatementKind.HEAD:
            hint = "this may depend on the head, not on tokens"
    return frame.add(NoPairHere(span=span, hint=hint))

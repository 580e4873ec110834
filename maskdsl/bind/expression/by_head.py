"""Constants of each head, such as `sizes[head]` and `2 ** head`: conditions on `head` that choose among constants."""

from collections.abc import Callable, Sequence
from itertools import groupby

from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, constant
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.terms import operate
from maskdsl.ir.expressions import Constant, Expression, Head
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import for_head


def numbers_by_head(frame: Frame, term: Term) -> list[int]:
    """The integer of each head, for a term that depends on the head alone."""
    return [_integer(for_head(term.expression, head)) for head in range(frame.declared.heads.count)]


def _integer(expression: Expression) -> int:
    assert isinstance(expression, Constant), expression
    return int(expression.value)


def chosen_by_head(frame: Frame, span: Span, numbers: Sequence[int], value: Callable[[int], Value]) -> Value:
    """`value` of the number of each head. It is called once for each number."""
    values = {number: value(number) for number in dict.fromkeys(numbers)}
    if any(isinstance(each, Bad) for each in values.values()):
        return BAD
    runs = [(number, len(list(run))) for number, run in groupby(numbers)]
    starts = [sum(length for _, length in runs[:at]) for at in range(len(runs))]
    return _chosen(frame, span, [(start, values[number]) for start, (number, _) in zip(starts, runs, strict=True)])


def _chosen(frame: Frame, span: Span, runs: Sequence[tuple[int, Value]]) -> Value:
    """The value of the run that the head is in, by halves. Each run has its first head."""
    if len(runs) == 1:
        return runs[0][1]
    middle = len(runs) // 2
    head = Term(Head(span=span), Range(0, frame.declared.heads.count - 1))
    is_before = operate(frame, Op.LESS, span, head, constant(runs[middle][0], span))
    halves = _chosen(frame, span, runs[:middle]), _chosen(frame, span, runs[middle:])
    return operate(frame, Op.SELECT, span, is_before, *halves)

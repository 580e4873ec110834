"""What a pattern does to scores, in the forms that engines have arguments for, recognised by the structure of the IR.

`factor * s`, and then either a soft cap, `cap * tanh(s / cap)`, or biases that read no score. A bias is ALiBi's if it
is `factor * (k - q)`, of positions. Nothing is approximated: expressions of any other structure are none of these.
"""

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import (
    Apply,
    Constant,
    Coordinate,
    Expression,
    Head,
    Score,
    Side,
    apply,
    substitute,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op

_ONE = Constant(1.0)


@dataclass(frozen=True)
class ScoreForm:
    """`factor * s`, then a soft cap or biases. Its expressions read no score; factor and cap are one number each."""

    factor: Expression = _ONE
    cap: Expression | None = None
    biases: tuple[Expression, ...] = ()


def score_form(lines: tuple[Expression, ...]) -> ScoreForm | None:
    """The form of all `score` lines, one after the other; None if they have another."""
    score: Expression = Score()
    for line in lines:
        score = substitute(line, {Score(): score})
    return _form(score)


def is_number(expression: Expression) -> bool:
    """Whether the expression has one value for all pairs, heads and batch entries."""
    return not reads(expression).leaves


def alibi_factor(bias: Expression, looks_back: bool) -> Expression | None:
    """The factor of each head, where the bias is `factor * (k - q)`, of positions; None if it is something else.

    `looks_back` says that no query attends a later key, so that `abs(q - k)` is `q - k`.
    """
    match bias:
        case Apply(op=Op.SUBTRACT, arguments=(Coordinate(Side.KEY, "i"), Coordinate(Side.QUERY, "i"))):
            return _ONE
        case Apply(op=Op.SUBTRACT, arguments=(Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i"))):
            return Constant(-1.0)
        case Apply(op=Op.ABSOLUTE, arguments=(Apply(op=Op.SUBTRACT) as distance,)) if looks_back:
            return None if alibi_factor(distance, looks_back) is None else Constant(-1.0)
        case Apply(op=Op.TO_FLOAT, arguments=(distance,)):
            return alibi_factor(distance, looks_back)
        case Apply(op=Op.NEGATE, arguments=(positive,)):
            return _times(alibi_factor(positive, looks_back), Constant(-1.0))
        case Apply(op=Op.MULTIPLY, arguments=(by, distance)) if _is_of_head(by):
            return _times(alibi_factor(distance, looks_back), by)
        case Apply(op=Op.MULTIPLY, arguments=(distance, by)) if _is_of_head(by):
            return _times(alibi_factor(distance, looks_back), by)
        case Apply(op=Op.DIVIDE, arguments=(distance, by)) if _is_of_head(by):
            return _times(alibi_factor(distance, looks_back), apply(Op.DIVIDE, _ONE, by))
        case _:
            return None


def _form(score: Expression) -> ScoreForm | None:
    match score:
        case Score():
            return ScoreForm()
        case Apply(op=Op.MULTIPLY, arguments=(cap, Apply(op=Op.TANH, arguments=(within,)))) if is_number(cap):
            return _capped(_form(within), cap)
        case Apply(op=Op.MULTIPLY, arguments=(Apply(op=Op.TANH, arguments=(within,)), cap)) if is_number(cap):
            return _capped(_form(within), cap)
        case Apply(op=Op.TANH, arguments=(within,)):
            return _capped(_form(within), _ONE)
        case Apply(op=Op.MULTIPLY, arguments=(by, before)) if is_number(by):
            return _multiplied(_form(before), by)
        case Apply(op=Op.MULTIPLY, arguments=(before, by)) if is_number(by):
            return _multiplied(_form(before), by)
        case Apply(op=Op.DIVIDE, arguments=(before, by)) if is_number(by):
            return _multiplied(_form(before), apply(Op.DIVIDE, _ONE, by))
        case Apply(op=Op.ADD, arguments=(before, bias)) if not _reads_score(bias):
            return _biased(_form(before), bias)
        case Apply(op=Op.ADD, arguments=(bias, before)) if not _reads_score(bias):
            return _biased(_form(before), bias)
        case Apply(op=Op.SUBTRACT, arguments=(before, bias)) if not _reads_score(bias):
            return _biased(_form(before), apply(Op.NEGATE, bias))
        case _:
            return None


def _capped(form: ScoreForm | None, cap: Expression) -> ScoreForm | None:
    """`cap * tanh` of a form: `cap * tanh(s * cap * factor / cap)`."""
    if form is None or form.cap is not None or form.biases:
        return None
    return ScoreForm(_product(form.factor, cap), cap)


def _multiplied(form: ScoreForm | None, by: Expression) -> ScoreForm | None:
    if form is None or form.cap is not None:
        return None
    return ScoreForm(_product(form.factor, by), None, tuple(_product(each, by) for each in form.biases))


def _biased(form: ScoreForm | None, bias: Expression) -> ScoreForm | None:
    if form is None or form.cap is not None:
        return None
    return ScoreForm(form.factor, None, (*form.biases, bias))


def _product(first: Expression, second: Expression) -> Expression:
    """The product; 1 of a number and 1 divided by it."""
    if first == apply(Op.DIVIDE, _ONE, second):
        return _ONE
    return second if first == _ONE else apply(Op.MULTIPLY, first, second)


def _times(factor: Expression | None, by: Expression) -> Expression | None:
    return None if factor is None else _product(factor, by)


def _is_of_head(expression: Expression) -> bool:
    return all(leaf == Head() for leaf in reads(expression).leaves)


def _reads_score(expression: Expression) -> bool:
    return reads(expression).score

"""Binds the lines that say what scores and probabilities are: `score`, `scale`, `normalize`, `sink` and `weight`."""

from dataclasses import replace

from maskdsl.base.errors.language.names import DuplicateName
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import Bad, Term, Value, describe
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.context.terms import operate, promoted
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.statement.normalization import bound_normalization, by_what_they_read, of_query
from maskdsl.bind.statement.score_products import BoundScores, with_products
from maskdsl.bind.visible_names import Names
from maskdsl.ir.expressions import FALSE, Expression
from maskdsl.ir.mask import Normalize
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify
from maskdsl.syntax import tree


@dataclass(frozen=True)
class BoundProbabilities:
    """What lines say of scores, and of the probabilities that these become."""

    scored: BoundScores
    weights: tuple[Expression, ...]
    """Floats of any pair, one of each line."""
    sinks: tuple[Expression, ...]
    normalize: Normalize


def bound_probabilities(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> BoundProbabilities:
    """Binds these lines in the frame of the pairs that attend."""
    scoring = replace(frame, statement=StatementKind.SCORE)
    scores = tuple(
        _float(each.value, names.at(each, scoring), "a score")
        for each in declaration.statements
        if isinstance(each, tree.ScoreStatement)
    )
    valuing = replace(frame, statement=StatementKind.VALUE)
    weights = tuple(
        _float(each.value, names.at(each, valuing), "a weight")
        for each in declaration.statements
        if isinstance(each, tree.WeightStatement)
    )
    sinks = tuple(
        of_query(_float(each.value, names.at(each, valuing), "a sink"), each, valuing)
        for each in declaration.statements
        if isinstance(each, tree.SinkStatement)
    )
    normalize = bound_normalization(declaration, frame)
    scored = with_products(scores, _scale(declaration, names, valuing), frame)
    return BoundProbabilities(scored, weights, sinks, normalize)


def _scale(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> Expression | None:
    statements = [each for each in declaration.statements if isinstance(each, tree.ScaleStatement)]
    for again in statements[1:]:
        frame.add(DuplicateName(span=again.span, name="scale", kind="the pattern already has a scale"))
    if not statements:
        return None
    return _float(statements[0].value, names.at(statements[0], frame), "a scale")


def _float(node: tree.Expression, frame: Frame, what: str) -> Expression:
    value = elaborate(node, frame)
    if isinstance(value, Term) and value.type is not Type.BOOL:
        return simplify(promoted(frame, value).expression)
    if not isinstance(value, Bad):
        result, expected = describe(value), "a float"
        frame.add(TypeMismatch(span=node.span, what=what, found=result, expected=expected))
    return FALSE


def weight_and_factor(weights: tuple[Expression, ...], frame: Frame) -> tuple[Expression | None, Expression | None]:
    """The product of the factors of all weights that read the key, and that of the others, which are of the query.

    There are no wrong weights among them.
    """
    of_query_alone, of_pairs = by_what_they_read(weights, frame)
    return _product(of_pairs, frame), _product(of_query_alone, frame)


def _product(factors: list[Expression], frame: Frame) -> Expression | None:
    if not factors:
        return None
    product: Value = Term(factors[0])
    for factor in factors[1:]:
        product = operate(frame, Op.MULTIPLY, factor.span or _anywhere(frame), product, Term(factor))
    assert isinstance(product, Term)
    return product.expression


def _anywhere(frame: Frame) -> Span:
    return frame.declared.program.root.span

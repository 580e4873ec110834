"""What `normalize`, `sink` and `weight` lines say of whole queries: how scores become probabilities, and factors."""

from collections.abc import Iterable, Iterator

from maskdsl.base.errors.language.names import DuplicateName
from maskdsl.base.errors.language.normalization import SinkReadsKey, SinkWithoutSoftmax, UnknownNormalization
from maskdsl.bind.context.frame import Frame
from maskdsl.ir.expressions import Apply, Expression, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import Normalize
from maskdsl.ir.ops import Op
from maskdsl.syntax import tree


def bound_normalization(declaration: tree.PatternDeclaration, frame: Frame) -> Normalize:
    """What the pattern's `normalize` line says. Reports what is wrong with it, and with sinks beside it."""
    statements = [each for each in declaration.statements if isinstance(each, tree.NormalizeStatement)]
    for again in statements[1:]:
        frame.add(DuplicateName(span=again.span, name="normalize", kind="the pattern already has a normalization"))
    if not statements:
        return Normalize.BY_QUERY
    first = statements[0]
    if first.text not in {*Normalize}:
        frame.add(UnknownNormalization(span=first.span, text=first.text))
        return Normalize.BY_QUERY
    normalize = Normalize(first.text)
    for sink in declaration.statements:
        if isinstance(sink, tree.SinkStatement) and normalize is not Normalize.BY_QUERY:
            frame.add(SinkWithoutSoftmax(span=sink.span, normalize=normalize))
    return normalize


def of_query(value: Expression, statement: tree.SinkStatement, frame: Frame) -> Expression:
    """The value of a sink. Reports what it reads of a key."""
    if _reads_key(value):
        frame.add(SinkReadsKey(span=statement.value.span, what="the key"))
    elif _is_routed(value, frame):
        what = "a rank or pools by a coordinate, which are found for all tokens of a call"
        frame.add(SinkReadsKey(span=statement.value.span, what=what))
    return value


def by_what_they_read(weights: Iterable[Expression], frame: Frame) -> tuple[list[Expression], list[Expression]]:
    """The factors of these products: those that read no key, which are factors of a query's output, and the others."""
    factors: list[Expression] = []
    others: list[Expression] = []
    for factor in (each for weight in weights for each in _factors(weight)):
        is_of_pair = _reads_key(factor) or _is_routed(factor, frame)
        (others if is_of_pair else factors).append(factor)
    return factors, others


def _is_routed(expression: Expression, frame: Frame) -> bool:
    """Whether an expression over the query reads what is computed from all tokens of a call."""
    names = {each.name for each in frame.declared.routed}
    return not names.isdisjoint(trace(frame.declared.queries.sequence, [expression]).inputs)


def _factors(expression: Expression) -> Iterator[Expression]:
    match expression:
        case Apply(op=Op.MULTIPLY, arguments=operands):
            for operand in operands:
                yield from _factors(operand)
        case _:
            yield expression


def _reads_key(expression: Expression) -> bool:
    return bool(reads(expression).names(Side.KEY))

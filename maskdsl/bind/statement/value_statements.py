"""Binds `value`: what takes the place of the values of keys, and what pairs add to the output beside them."""

from dataclasses import replace

from maskdsl.base.errors.language.names import DuplicateName
from maskdsl.base.errors.language.tables import ValueOfPair
from maskdsl.base.records import dataclass
from maskdsl.bind.context.bound_values import Bad, Term, Value, constant
from maskdsl.bind.context.frame import Declared, Frame, StatementKind
from maskdsl.bind.context.terms import operate
from maskdsl.bind.context.vector_values import VectorTerm, VectorValue, added, sides_of_term
from maskdsl.bind.expression.dots import windowed
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.table_inputs import BATCH, heads_dimension
from maskdsl.bind.expression.vector_expressions import vector
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.expressions import PAIR, Constant, Read, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.token_vectors import Multiple, OfValue, TableRow, ValueTerm, Vector, vector_leaves
from maskdsl.syntax import tree


@dataclass(frozen=True)
class BoundValues:
    """The values of a mask: see its fields of these names."""

    key_value: Vector | None = None
    values: tuple[ValueTerm, ...] = ()

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """All vectors."""
        return (*([] if self.key_value is None else [self.key_value]), *(each.vector for each in self.values))

    def inputs(self, declared: Declared) -> tuple[Input, ...]:
        """The declarations of the tables of masses."""
        return tuple(_table(each, declared) for each in self.values)


def _table(term: ValueTerm, declared: Declared) -> Input:
    sizes = [(declared.queries.sequence.length, "queries"), *((each.count, str(each.count)) for each in term.windows)]
    dimensions = (Dimension(DimensionKind.FIXED, size, text) for size, text in sizes)
    return Input(term.name, Type.FLOAT, (BATCH, heads_dimension(declared), *dimensions))


def bound_values(statements: list[tree.ValueStatement], frame: Frame, elaborate: Elaborate) -> BoundValues:
    """The values of a pattern; those of the keys as they are, if there is no statement or a wrong one."""
    for again in statements[1:]:
        frame.add(DuplicateName(span=again.span, name="value", kind="the pattern already has a value"))
    if not statements:
        return BoundValues()
    node = statements[0].value
    value = vector(node, replace(frame, statement=StatementKind.VECTOR), elaborate)
    if isinstance(value, Bad):
        return BoundValues()
    of_key = [each for each in value.terms if _is_of_key(each)]
    others = [each for each in value.terms if not _is_of_key(each)]
    terms = [_term(each, number, node, frame) for number, each in enumerate(others)]
    if any(each is None for each in terms):
        return BoundValues()
    return BoundValues(_key_value(of_key, value), tuple(each for each in terms if each is not None))


def _is_of_key(term: VectorTerm) -> bool:
    return term.condition is None and Side.QUERY not in sides_of_term(term)


def _key_value(terms: list[VectorTerm], value: VectorValue) -> Vector | None:
    if terms == [VectorTerm(None, OfValue())]:
        return None
    return added(terms) if terms else Multiple(Constant(0.0), OfValue())


def _term(term: VectorTerm, number: int, node: tree.Expression, frame: Frame) -> ValueTerm | None:
    """A term that depends on the pair; None, with a report, if no table of rows has it."""
    made, span = term.vector, node.span
    if any(isinstance(leaf, OfValue) for leaf in vector_leaves(made)):
        frame.add(ValueOfPair(span=span))
        return None
    sides = sides_of_term(VectorTerm(None, made))
    if Side.KEY in sides or not sides:
        if not isinstance(made, TableRow):
            frame.add(ValueOfPair(span=span))
            return None
        made = windowed(made, frame) if sides else made
    factor = term.factor
    if factor is not None and not any(reads(factor.expression).names(side) for side in PAIR):
        made, factor = Multiple(factor.expression, made), None
    text = f"mass of {' '.join(span.text.split())}"
    empty = ValueTerm(text if not number else f"{text} {number + 1}", Constant(0.0), made)
    weight: Value = Term(Read(empty.name, empty.indices, Type.FLOAT, span=span), size=3, depth=2)
    if factor is not None:
        weight = operate(frame, Op.MULTIPLY, span, factor, weight)
    if term.condition is not None:
        weight = operate(frame, Op.SELECT, span, term.condition, weight, constant(0.0, span))
    return replace(empty, weight=simplify(weight.expression)) if isinstance(weight, Term) else None

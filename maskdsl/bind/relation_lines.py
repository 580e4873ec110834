"""Binds the lines that say which pairs attend: `attend` and `require`."""

from collections.abc import Iterator
from dataclasses import replace

from maskdsl.base.errors.language.patterns import NoAttend
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.base.records import dataclass
from maskdsl.bind.context.bound_values import Bad, Term, Value, describe
from maskdsl.bind.context.frame import Declared, Frame
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.context.terms import operate
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.statement.pool_members import guards
from maskdsl.bind.visible_names import Names
from maskdsl.ir.expressions import FALSE, TRUE, Expression, apply
from maskdsl.ir.mask import Clause
from maskdsl.ir.ops import Op, Type
from maskdsl.syntax import tree


@dataclass(frozen=True)
class BoundRelations:
    """Which pairs attend: the lines that are right, and all of them together."""

    attend: tuple[Clause, ...]
    require: tuple[Clause, ...]
    whole: Value

    @property
    def expression(self) -> Expression:
        """All lines together; `false` if one is wrong."""
        return self.whole.expression if isinstance(self.whole, Term) else FALSE


def bound_relations(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> BoundRelations:
    """The relation of the pattern: any of the `attend` lines, and all of the `require` lines."""
    attends = [each for each in declaration.statements if isinstance(each, tree.AttendStatement)]
    requires = [each for each in declaration.statements if isinstance(each, tree.RequireStatement)]
    span = declaration.name.span
    if not attends:
        frame.add(NoAttend(span=span, name=declaration.name.id))
    attended = [_relation(each, names.at(each, frame)) for each in attends]
    whole: Value = operate(frame, Op.OR, span, *attended) if attended else Term(TRUE)
    required: list[Value] = []
    known = assuming(frame, whole)
    for each in requires:
        required.append(_relation(each, names.at(each, known)))
        known = assuming(known, required[-1])
    if required:
        whole = operate(frame, Op.AND, span, whole, *required)
    return BoundRelations(tuple(_clauses(attends, attended)), tuple(_clauses(requires, required)), whole)


def with_guards(relations: BoundRelations, declared: Declared) -> BoundRelations:
    """The relations, with a requirement for each space whose pools may have no tokens."""
    guarded = tuple(guards(declared))
    if not guarded:
        return relations
    whole = apply(Op.AND, relations.expression, *(each.relation for each in guarded))
    return replace(relations, require=(*relations.require, *guarded), whole=Term(whole))


def _relation(statement: tree.AttendStatement | tree.RequireStatement, frame: Frame) -> Value:
    value = elaborate(statement.relation, frame)
    if isinstance(value, Bad) or (isinstance(value, Term) and value.type is Type.BOOL):
        return value
    span, result = statement.relation.span, describe(value)
    return frame.add(TypeMismatch(span=span, what="this", found=result, expected="a relation"))


def _clauses(
    statements: list[tree.AttendStatement] | list[tree.RequireStatement], values: list[Value]
) -> Iterator[Clause]:
    for statement, value in zip(statements, values, strict=True):
        if isinstance(value, Term):
            yield Clause(value.expression, span=statement.span)

"""Checks the lines that leave nothing in a mask: `assert`s, and `let`s that nothing uses."""

from dataclasses import replace

from maskdsl.base.errors.language.patterns import AssertFailed
from maskdsl.base.errors.language.types import NotConstant, TypeMismatch
from maskdsl.bind.context.bound_values import Abbreviation, Bad, Term, depends_on, describe
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.expression.macros import let_value
from maskdsl.bind.visible_names import Names
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree


def check_asserts(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> None:
    """Reports conditions that do not hold, or that are not known before the tokens are."""
    for statement in declaration.statements:
        if not isinstance(statement, tree.AssertStatement):
            continue
        span = statement.condition.span
        value = elaborate(statement.condition, names.at(statement, frame))
        match value:
            case Bad():
                pass
            case Term() if value.constant is False:
                frame.add(AssertFailed(span=span, text=statement.message.value))
            case Term() if value.constant is None:
                frame.add(NotConstant(span=span, what="an asserted condition", reason=depends_on(value)))
            case Term() if value.type is Type.BOOL:
                pass
            case _:
                result = describe(value)
                frame.add(TypeMismatch(span=span, what="this", found=result, expected="a condition"))


def check_lets(names: Names, frame: Frame) -> None:
    """Reports errors in `let`s that nothing uses. Warnings are given where a `let` is used."""
    for statement in names.lets:
        inside = replace(names.at(statement, frame), report=frame.report.trial())
        if isinstance(names.last.get(statement.name.id), Abbreviation):
            let_value(statement, inside, elaborate)
            frame.report.take(inside.report)

"""Checks the lines that leave nothing in a mask: `assert`s, and `let`s that nothing uses."""

from collections.abc import Iterator
from dataclasses import replace

from maskdsl.base.errors.language.patterns import AssertFailed
from maskdsl.base.errors.language.routes import NoRouteOfName, OutsideRoute
from maskdsl.base.errors.language.types import NotConstant, TypeMismatch
from maskdsl.bind.context.bound_values import Abbreviation, Bad, Term, depends_on, describe
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.bind.expression.macros import let_value
from maskdsl.bind.expression.vector_expressions import is_vector, vector
from maskdsl.bind.visible_names import Names
from maskdsl.ir.mask import CausalClaim
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree


def causal_claims(declaration: tree.PatternDeclaration, frame: Frame) -> Iterator[CausalClaim]:
    """What `assert causal(name)` says of routes and of the pattern. Reports names of nothing."""
    for statement in declaration.statements:
        name = _claimed(statement)
        if name is None:
            continue
        assert isinstance(statement, tree.AssertStatement)
        message, span, declared = statement.message.value, statement.condition.span, frame.declared
        if name.id == "all" or name.id in declared.routes:
            yield CausalClaim(None if name.id == "all" else name.id, message, span=span)
        elif name.id not in declared.bad_names:
            similar = frame.nearest(name.id, declared.routes)
            frame.add(NoRouteOfName(span=name.span, name=name.id, nearest=similar))


def _claimed(statement: tree.Statement) -> tree.Name | None:
    """The name in `assert causal(name)`; None for any other statement."""
    match statement:
        case tree.AssertStatement(
            condition=tree.Call(
                function=tree.Name(id="causal"),
                arguments=(tree.Argument(name=None, value=tree.Name() as name, by=None),),
            )
        ):
            return name
        case _:
            return None


def check_asserts(declaration: tree.PatternDeclaration, names: Names, frame: Frame) -> None:
    """Reports conditions that do not hold, or that are not known before the tokens are."""
    for statement in declaration.statements:
        if not isinstance(statement, tree.AssertStatement) or _claimed(statement) is not None:
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
    """Reports errors in `let`s that are wrong wherever they are used. Warnings are given where a `let` is used."""
    for statement in names.lets:
        if isinstance(names.last.get(statement.name.id), Abbreviation):
            _check_let(statement, names.at(statement, frame))


def _check_let(let: tree.LetStatement, frame: Frame) -> None:
    """Reports a `let` that is no value of a pair, no score of a route, and no vector."""
    of_pair, of_route, of_vector = (
        replace(frame, statement=kind, report=frame.report.trial())
        for kind in (StatementKind.SCORE, StatementKind.ROUTE, StatementKind.ROUTE)
    )
    let_value(let, of_pair, elaborate)
    if not of_pair.report.errors:
        return
    let_value(let, of_route, elaborate)
    if of_route.report.errors and is_vector(let.value, of_vector):  # by its form: `2.0 * k` is a number too
        vector(let.value, of_vector, elaborate)
        of_route = of_vector
    if of_route.report.errors:
        meant = any(isinstance(each, OutsideRoute) for each in of_pair.report.errors.values())
        frame.report.take((of_route if meant else of_pair).report)

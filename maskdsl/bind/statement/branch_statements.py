"""Unrolls the branches of a pattern: each becomes a pattern of its own, of what stands outside and of its own lines."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import TypeVar

from maskdsl.base.errors.language.patterns import (
    DomainOfBranches,
    ManyBranches,
    NoAttend,
    NoBranch,
    NotInBranch,
    OutsideBranches,
)
from maskdsl.base.records import dataclass
from maskdsl.bind.context.bound_values import Term
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.expression.elaborate import integers
from maskdsl.bind.statement.parameters import check_name
from maskdsl.bind.statement.unread_inputs import names_in
from maskdsl.syntax import tree

_MOST_BRANCHES = 64
_OUTSIDE = (
    tree.SpaceStatement,
    tree.PooledSpaceStatement,
    tree.SequenceStatement,
    tree.InputStatement,
    tree.CoordinateStatement,
    tree.OrderStatement,
    tree.AutoOrderStatement,
    tree.AssertStatement,
    tree.BranchStatement,
)
"""What branches share, and therefore do not say themselves."""
_INSIDE = (tree.AttendStatement, tree.WeightStatement, tree.SinkStatement, tree.NormalizeStatement)
"""What only a branch can say in a pattern with branches."""

_Node = TypeVar("_Node")


@dataclass(frozen=True)
class BranchPattern:
    """A branch as a pattern: the statements outside, then its own. Its routes are named `branch.route`."""

    name: str
    """`content`, or `window[3]` for one of several."""
    declaration: tree.PatternDeclaration
    statement: tree.BranchStatement

    @property
    def without_weights(self) -> tuple[tree.Statement, ...]:
        """Its statements but weights, without a variable that nothing else reads: alike for alike attentions."""
        kept = tuple(each for each in self.declaration.statements if not isinstance(each, tree.WeightStatement))
        variable = self.statement.variable
        if variable is None:
            return kept
        return tuple(each for each in kept if not _is_idle(each, variable.id, kept))


def branch_patterns(declaration: tree.PatternDeclaration, frame: Frame) -> tuple[BranchPattern, ...]:
    """The branches of a pattern, unrolled; none if it has no `branch` statement, or, with a report, for wrong ones.

    The names of `frame` are those that stand outside.
    """
    statements = [each for each in declaration.statements if isinstance(each, tree.BranchStatement)]
    if not statements:
        return ()
    for each in declaration.statements:
        if isinstance(each, _INSIDE):
            frame.add(OutsideBranches(span=each.span, word=_word(each)))
    known: dict[str, None] = {}
    branches: list[BranchPattern] = []
    for statement in statements:
        name = statement.name.id
        if not check_name(statement.name, known, frame, "a branch"):
            continue
        known[name] = None
        for each in statement.statements:
            if isinstance(each, _OUTSIDE):
                frame.add(NotInBranch(span=each.span, word=_word(each)))
        if any(isinstance(each, tree.AttendStatement) for each in statement.statements):
            branches += _unrolled(declaration, statement, frame)
        else:
            frame.add(NoAttend(span=statement.name.span, name=name, kind="branch"))
        if len(branches) > _MOST_BRANCHES:
            count, at = len(branches), statement.name.span
            frame.report.stop(ManyBranches(span=at, name=declaration.name.id, count=count, limit=_MOST_BRANCHES))
    if not branches and not frame.report.errors:
        frame.add(NoBranch(span=statements[0].span, name=declaration.name.id))
    return tuple(branches)


def _unrolled(
    declaration: tree.PatternDeclaration, statement: tree.BranchStatement, frame: Frame
) -> Iterator[BranchPattern]:
    """The branch of a statement, or one for each value of its variable."""
    name, variable, domain = statement.name.id, statement.variable, statement.domain
    if variable is None or domain is None:
        yield _branch(declaration, statement, name, ())
        return
    if not isinstance(domain, tree.HalfOpenRange):
        frame.add(DomainOfBranches(span=domain.span, name=name, variable=variable.id))
        return
    for value in integers(domain, frame) or ():
        assert isinstance(value, Term)
        number = int(value.constant or 0)
        let = tree.LetStatement(variable, tree.Integer(number, span=variable.span), span=variable.span)
        yield _branch(declaration, statement, f"{name}[{number}]", (let,))


def _branch(
    declaration: tree.PatternDeclaration, statement: tree.BranchStatement, name: str, lets: tuple[tree.Statement, ...]
) -> BranchPattern:
    shared = tuple(each for each in declaration.statements if not isinstance(each, tree.BranchStatement))
    declared = (each.name.id for each in statement.statements if isinstance(each, tree.RouteStatement))
    routes = {each: f"{name}.{each}" for each in declared}
    lines = _renamed(statement.statements, routes) if routes else statement.statements
    return BranchPattern(name, replace(declaration, statements=(*shared, *lets, *lines)), statement)


def _renamed(node: _Node, names: Mapping[str, str]) -> _Node:
    """A tree with these names replaced, but not those of functions, of arguments and of variables."""
    match node:
        case tuple():
            return tuple(_renamed(each, names) for each in node)  # type: ignore[return-value]
        case tree.Name(id=name):
            return replace(node, id=names.get(name, name))
        case tree.Argument(value=value):
            return replace(node, value=_renamed(value, names))
        case tree.Call(arguments=arguments):
            return replace(node, arguments=_renamed(arguments, names))
        case tree.Quantifier(variable=variable):
            inner = {name: other for name, other in names.items() if name != variable.id}
            return replace(node, body=_renamed(node.body, inner), domain=_renamed(node.domain, names))
        case tree.Node():
            changed = {each.name: _renamed(getattr(node, each.name), names) for each in fields(node)}
            return replace(node, **changed)
        case _:
            return node


def _is_idle(statement: tree.Statement, variable: str, statements: tuple[tree.Statement, ...]) -> bool:
    """Whether a statement says the value of this variable, and no other statement reads it."""
    match statement:
        case tree.LetStatement(name=tree.Name(id=name)) if name == variable:
            return variable not in names_in(tuple(each for each in statements if each is not statement))
        case _:
            return False


def _word(statement: tree.Statement) -> str:
    """The word that a statement begins with."""
    return statement.span.text.split(maxsplit=1)[0]

"""Warnings about parameters and inputs that nothing in a pattern reads."""

from collections.abc import Iterator

from maskdsl.base.diagnostics import Caution
from maskdsl.base.errors.language.warnings import UnusedInput, UnusedParameter
from maskdsl.bind.statement.unread_inputs import names_read, unread_inputs
from maskdsl.syntax import tree


def unused_warnings(declaration: tree.PatternDeclaration | tree.StackDeclaration) -> Iterator[Caution]:
    """The warnings of parameters and inputs whose names stand nowhere but in their declaration."""
    read = names_read(declaration)
    for parameter in declaration.parameters:
        if parameter.name.id not in read:
            yield UnusedParameter(span=parameter.name.span, name=parameter.name.id)
    if isinstance(declaration, tree.PatternDeclaration):
        unread = unread_inputs(declaration)
        for statement in declaration.statements:
            if isinstance(statement, tree.InputStatement) and statement.name.id in unread:
                yield UnusedInput(span=statement.name.span, name=statement.name.id)

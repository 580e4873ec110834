"""Warnings about parameters and inputs that nothing in a pattern reads."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from maskdsl.base.diagnostics import Caution
from maskdsl.base.errors.language.warnings import UnusedInput, UnusedParameter
from maskdsl.syntax import tree


def unused_warnings(declaration: tree.PatternDeclaration | tree.StackDeclaration) -> Iterator[Caution]:
    """The warnings of parameters and inputs whose names stand nowhere but in their declaration."""
    read = {each for parameter in declaration.parameters for each in _names(parameter.default)}
    inputs: list[tree.InputStatement] = []
    if isinstance(declaration, tree.StackDeclaration):
        read.update(_names(declaration.layers))
    else:
        for statement in declaration.statements:
            read.update(_names(statement))
        inputs = [each for each in declaration.statements if isinstance(each, tree.InputStatement)]
    for parameter in declaration.parameters:
        if parameter.name.id not in read:
            yield UnusedParameter(span=parameter.name.span, name=parameter.name.id)
    for statement in inputs:
        if statement.name.id not in read:
            yield UnusedInput(span=statement.name.span, name=statement.name.id)


def _names(value: object) -> Iterator[str]:
    """The names that a node reads, all of them: none that it declares, nor those of arguments."""
    match value:
        case tuple():
            for each in value:
                yield from _names(each)
        case tree.Name(id=name):
            yield name
        case tree.Argument(value=inner):
            yield from _names(inner)
        case tree.InputStatement(dimensions=inner):
            yield from _names(inner)
        case _ if is_dataclass(value) and isinstance(value, tree.Node):
            for field in fields(value):
                yield from _names(getattr(value, field.name))

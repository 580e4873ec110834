"""The names that a pattern or stack reads, and the inputs that it declares and never reads. By the text alone."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass

from maskdsl.syntax import tree
from maskdsl.syntax.program import Program


def names_read(declaration: tree.PatternDeclaration | tree.StackDeclaration) -> frozenset[str]:
    """The names that stand anywhere but where they are declared, macros and coordinates among them."""
    body = declaration.layers if isinstance(declaration, tree.StackDeclaration) else declaration.statements
    return names_in((*(each.default for each in declaration.parameters), body))


def unread_inputs(declaration: tree.PatternDeclaration, orders: tuple[tree.Statement, ...] = ()) -> tuple[str, ...]:
    """The inputs that neither the pattern nor these orders read: calls may give them or leave them out."""
    read = names_read(declaration) | names_in(orders)
    inputs = (each.name.id for each in declaration.statements if isinstance(each, tree.InputStatement))
    return tuple(name for name in inputs if name not in read)


def names_called(program: Program, declaration: tree.PatternDeclaration) -> frozenset[str]:
    """The names in scores of a pattern and in what scores may call: its `let`s, and macros of its program's files."""
    files = [file for file in program.files if file is not program.standard]
    macros = [each for file in files for each in file.declarations if isinstance(each, tree.MacroDeclaration)]
    scores = [each for each in declaration.statements if isinstance(each, tree.ScoreStatement | tree.LetStatement)]
    return frozenset(_names((*scores, *macros)))


def names_in(nodes: tuple[object, ...]) -> frozenset[str]:
    """The names in some nodes, without those that they declare and those of arguments."""
    return frozenset(_names(nodes))


def _names(value: object) -> Iterator[str]:
    """The names in a node, without those that it declares and those of arguments."""
    match value:
        case tuple():
            for each in value:
                yield from _names(each)
        case tree.Name(id=name):
            yield name
        case tree.Argument(value=inner, by=by):
            yield from _names((inner, by))
        case tree.InputStatement(dimensions=inner):
            yield from _names(inner)
        case _ if is_dataclass(value) and isinstance(value, tree.Node):
            for field in fields(value):
                yield from _names(getattr(value, field.name))

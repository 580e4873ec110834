"""Takes spaces without tokens out of a pattern: lines about them say nothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from maskdsl.syntax import tree

_Lengths = Mapping[str, Mapping[str, int]]
"""The lengths of the axes of the spaces that are empty."""


def without_empty_spaces(
    declaration: tree.PatternDeclaration, length: Callable[[tree.Statement, tree.Expression], int | None]
) -> tree.PatternDeclaration:
    """The pattern without the spaces that are empty, and without the lines about them alone.

    `length` gives the length of an axis of a space, if it is known. A sequence that would be empty keeps its spaces,
    and then nothing attends.
    """
    empty: dict[str, dict[str, int]] = {}
    for each in declaration.statements:
        match each:
            case tree.SpaceStatement(name=name, axes=axes):
                known = {(axis.name or name).id: length(each, axis.length) for axis in axes}
                lengths = {axis: number for axis, number in known.items() if number is not None}
                if 0 in lengths.values() and len(lengths) == len(known):
                    empty[name.id] = lengths
            case tree.PooledSpaceStatement(name=name, source=source) if source.id in empty:
                lengths = empty[source.id]
                empty[name.id] = {name.id if axis == source.id else axis: 0 for axis in lengths}
    sequences = _sequences(declaration)
    wholly = [kind for kind, spaces in sequences.items() if spaces <= empty.keys()]
    if not empty:
        return declaration
    if wholly:
        return _attending_nothing(declaration, "queries" in sequences and "queries" not in wholly)
    statements = [_statement(each, empty) for each in declaration.statements if not _is_about(each, empty)]
    return replace(declaration, statements=tuple(statements))


def _sequences(declaration: tree.PatternDeclaration) -> dict[str, set[str]]:
    """The names of the spaces of each sequence, by its kind."""
    statements = [each for each in declaration.statements if isinstance(each, tree.SequenceStatement)]
    spaces = [each for each in declaration.statements if isinstance(each, tree.SpaceStatement)]
    if not statements and len(spaces) == 1:
        return {"tokens": {spaces[0].name.id}}
    return {each.kind: {name.id for name in each.spaces} for each in statements}


def _attending_nothing(declaration: tree.PatternDeclaration, has_queries: bool) -> tree.PatternDeclaration:
    """The pattern of no pairs. Sinks, and what they may read, stay where there are queries."""
    kept = [tree.SpaceStatement, tree.PooledSpaceStatement, tree.SequenceStatement, tree.NormalizeStatement]
    if has_queries and any(isinstance(each, tree.SinkStatement) for each in _all_statements(declaration)):
        kept += [tree.SinkStatement, tree.InputStatement, tree.CoordinateStatement, tree.LetStatement]

    def without_pairs(statements: tuple[tree.Statement, ...]) -> tuple[tree.Statement, ...]:
        remaining: list[tree.Statement] = []
        for each in statements:
            match each:
                case tree.BranchStatement(statements=inner):
                    remaining.append(replace(each, statements=without_pairs(inner)))
                case tree.AttendStatement():
                    remaining.append(replace(each, relation=tree.Boolean(False, span=each.span)))
                case _ if isinstance(each, tuple(kept)):
                    remaining.append(each)
        return tuple(remaining)

    return replace(declaration, statements=without_pairs(declaration.statements))


def _all_statements(declaration: tree.PatternDeclaration) -> Iterator[tree.Statement]:
    """Yields the statements of a pattern and of its branches."""
    for each in declaration.statements:
        yield each
        yield from each.statements if isinstance(each, tree.BranchStatement) else ()


def inputs_left_out(written: tree.PatternDeclaration, present: tree.PatternDeclaration) -> tuple[str, ...]:
    """The inputs of a pattern that are of its empty spaces alone."""
    kept = {each.name.id for each in present.statements if isinstance(each, tree.InputStatement)}
    every = (each.name.id for each in written.statements if isinstance(each, tree.InputStatement))
    return tuple(name for name in every if name not in kept)


def _is_about(statement: tree.Statement, empty: _Lengths) -> bool:
    """Whether a statement is about an empty space alone."""
    match statement:
        case tree.SpaceStatement(name=name) | tree.PooledSpaceStatement(name=name):
            return name.id in empty
        case (
            tree.CoordinateStatement(space=tree.Name(id=space))
            | tree.OrderStatement(space=tree.Name(id=space))
            | tree.AutoOrderStatement(space=tree.Name(id=space))
        ):
            return space in empty
        case tree.InputStatement(dimensions=dimensions):
            return any(isinstance(each, tree.Name) and each.id in empty for each in dimensions)
        case _:
            return False


def _statement(node: tree.Statement, empty: _Lengths) -> tree.Statement:
    if isinstance(node, tree.SequenceStatement):
        return replace(node, spaces=tuple(each for each in node.spaces if each.id not in empty))
    changed: tree.Statement = _rewritten(node, empty)
    return changed


def _rewritten(node: Any, empty: _Lengths) -> Any:
    """A node in which no token is in an empty space."""
    match node:
        case tuple():
            return tuple(_rewritten(each, empty) for each in node)
        case tree.Arrow(query=query, key=key) if query.id in empty or key.id in empty:
            return tree.Boolean(False, span=node.span)
        case tree.Call(function=tree.Name(id="len"), arguments=(tree.Argument(value=axis),)) if (
            length := _length(axis, empty)
        ) is not None:
            return tree.Integer(length, span=node.span)
        case tree.Node():
            changed = {each.name: _rewritten(getattr(node, each.name), empty) for each in fields(node)}
            return _decided(replace(node, **changed))
        case _:
            return node


def _length(axis: tree.Expression, empty: _Lengths) -> int | None:
    """The length of an axis of an empty space; None for another expression."""
    match axis:
        case tree.Name(id=name) if name in empty:
            return empty[name].get(name)
        case tree.Attribute(base=tree.Name(id=space), name=tree.Name(id=name)) if space in empty:
            return empty[space].get(name)
        case _:
            return None


def _decided(node: tree.Node) -> tree.Node:
    """The node, without the operands that an arrow to an empty space excludes: they may read what no token has."""
    match node:
        case tree.Where(relation=tree.Boolean(value=False) as never):
            return never
        case tree.Binary(operator="and", left=tree.Boolean(value=False) as never):
            return never
        case tree.Conditional(condition=tree.Boolean(value=False), otherwise=otherwise):
            return otherwise
        case _:
            return node

"""Takes spaces without tokens out of a pattern: lines about them say nothing."""

from collections.abc import Callable, Mapping, Sequence
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
        has_queries = "queries" in sequences and "queries" not in wholly
        return _attending_nothing(declaration, has_queries, empty)
    return replace(declaration, statements=_present(declaration.statements, empty))


def _present(statements: tuple[tree.Statement, ...], empty: _Lengths) -> tuple[tree.Statement, ...]:
    """The statements without those about empty spaces alone, and without `let`s that only these read."""
    named = _named(statements)
    rest = [_statement(each, empty) for each in statements if not _is_about(each, empty)]
    return _needed(rest, lambda each: not isinstance(each, tree.LetStatement) or each.name.id not in named)


def _needed(
    statements: Sequence[tree.Statement], stays: Callable[[tree.Statement], bool]
) -> tuple[tree.Statement, ...]:
    """The statements that stay, and the declarations of what they name."""
    kept, before = [stays(each) for each in statements], None
    while kept != before:
        before = kept
        named = _named(tuple(each for each, is_kept in zip(statements, kept, strict=True) if is_kept))
        kept = [is_kept or _declared(each) in named for each, is_kept in zip(statements, kept, strict=True)]
    return tuple(each for each, is_kept in zip(statements, kept, strict=True) if is_kept)


def _declared(statement: tree.Statement) -> str | None:
    """The name that a statement declares, for values."""
    match statement:
        case tree.LetStatement(name=name) | tree.CoordinateStatement(name=name) | tree.InputStatement(name=name):
            return name.id
        case _:
            return None


def _named(node: Any) -> set[str]:
    """The names that a node reads."""
    match node:
        case tree.Name(id=name):
            return {name}
        case tuple():
            return {name for each in node for name in _named(each)}
        case (
            tree.LetStatement(value=inner)
            | tree.CoordinateStatement(value=inner)
            | tree.InputStatement(dimensions=inner)
        ):
            return _named(inner)
        case tree.Node():
            return {name for each in fields(node) for name in _named(getattr(node, each.name))}
        case _:
            return set()


def _sequences(declaration: tree.PatternDeclaration) -> dict[str, set[str]]:
    """The names of the spaces of each sequence, by its kind."""
    statements = [each for each in declaration.statements if isinstance(each, tree.SequenceStatement)]
    spaces = [each for each in declaration.statements if isinstance(each, tree.SpaceStatement)]
    if not statements and len(spaces) == 1:
        return {"tokens": {spaces[0].name.id}}
    return {each.kind: {name.id for name in each.spaces} for each in statements}


def _attending_nothing(
    declaration: tree.PatternDeclaration, has_queries: bool, empty: _Lengths
) -> tree.PatternDeclaration:
    """The pattern of no pairs, with what its lengths read. Sinks stay where there are queries.

    Where no token is pooled, no coordinate says which.
    """
    kept: list[type[tree.Statement]] = [tree.SpaceStatement, tree.PooledSpaceStatement, tree.SequenceStatement]
    kept += [tree.NormalizeStatement, tree.AttendStatement, tree.BranchStatement]
    kept += [tree.SinkStatement] if has_queries else []

    def without_pairs(statement: tree.Statement) -> tree.Statement:
        match statement:
            case tree.BranchStatement(statements=inner):
                return replace(statement, statements=in_need(inner))
            case tree.AttendStatement():
                return replace(statement, relation=tree.Boolean(False, span=statement.span))
            case tree.PooledSpaceStatement(source=source) if source.id in empty:
                return replace(statement, by=None, size=tree.Integer(1, span=statement.span))
            case _:
                return statement

    def in_need(statements: Sequence[tree.Statement]) -> tuple[tree.Statement, ...]:
        return _needed([without_pairs(each) for each in statements], lambda each: isinstance(each, tuple(kept)))

    return replace(declaration, statements=in_need(declaration.statements))


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
    if isinstance(node, tree.BranchStatement):
        node = replace(node, statements=_present(node.statements, empty))
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

"""Finds the declarations of names by the text alone, so that it also works in half-typed patterns."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from maskdsl.bind.expression.functions import FUNCTIONS
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program

Declared = (
    tree.File
    | tree.MacroDeclaration
    | tree.PatternDeclaration
    | tree.StackDeclaration
    | tree.Parameter
    | tree.LetStatement
    | tree.SpaceStatement
    | tree.PooledSpaceStatement
    | tree.AxisDeclaration
    | tree.CoordinateStatement
    | tree.InputStatement
    | tree.RouteStatement
    | tree.BranchStatement
    | tree.Quantifier
)
_Spaces = tree.SpaceStatement | tree.PooledSpaceStatement
_DECLARING = (
    tree.MacroDeclaration,
    tree.PatternDeclaration,
    tree.StackDeclaration,
    tree.Parameter,
    tree.LetStatement,
    tree.SpaceStatement,
    tree.PooledSpaceStatement,
    tree.AxisDeclaration,
    tree.CoordinateStatement,
    tree.InputStatement,
    tree.RouteStatement,
    tree.BranchStatement,
)
SIDES = ("q", "k")


def declared_at(program: Program, path: Sequence[tree.Node]) -> Declared | None:
    """The declaration of the name at the end of a path; None if it is not a name, or a word of the language."""
    *around, node = path
    if not around:
        return None
    parent = around[-1]
    if isinstance(node, tree.String) and isinstance(parent, tree.UseDeclaration):
        return _used_file(program, parent)
    if not isinstance(node, tree.Name):
        return None
    if isinstance(parent, _DECLARING) and node is parent.name:
        return parent
    if isinstance(parent, tree.Quantifier | tree.BranchStatement) and node is parent.variable:
        return parent
    declaration = around[1] if len(around) > 1 else parent
    names = NameScope(declaration, around)
    match parent:
        case tree.Parameter(type=type) | tree.InputStatement(type=type) if node is type:
            return None
        case tree.Argument(name=name) if node is name:
            return _parameter(program, around[-2], node.id)
        case tree.Attribute(base=base, name=name) if node is name and base.id not in SIDES:
            return _axis_of(names.spaces.get(base.id), node.id)
        case tree.Attribute(name=name) if node is name:
            return names.values.get(node.id) or names.coordinates.get(node.id)
        case tree.Attribute() | tree.Arrow() | tree.SequenceStatement():
            return names.spaces.get(node.id)
        case tree.PooledSpaceStatement(source=space) | tree.OrderStatement(space=space) if node is space:
            return names.spaces.get(node.id)
        case tree.CoordinateStatement(space=space) if node is space:
            return names.spaces.get(node.id)
        case tree.Call(function=function) if node is function:
            return called(program, node)
    return _value(program, names, around, node)


class NameScope:
    """The names that a macro, a pattern or a stack declares for its own expressions; empty for other nodes."""

    def __init__(self, declaration: tree.Node, around: Sequence[tree.Node] = ()) -> None:
        self.values: dict[str, Declared] = {}
        self.spaces: dict[str, _Spaces] = {}
        self.coordinates: dict[str, Declared] = {}
        self.inputs: dict[str, tree.InputStatement] = {}
        self.routes: dict[str, tree.RouteStatement] = {}
        branches = [each for each in around if isinstance(each, tree.BranchStatement)]
        for each in branches:
            if each.variable is not None:
                self.values[each.variable.id] = each
        for node in (*chain.from_iterable(each.statements for each in branches), *_declaring(declaration)):
            match node:
                case tree.Parameter(name=name) | tree.LetStatement(name=name):
                    self.values.setdefault(name.id, node)
                case tree.SpaceStatement(name=name, axes=axes):
                    self.spaces.setdefault(name.id, node)
                    for axis in axes:
                        self.coordinates.setdefault(name.id if axis.name is None else axis.name.id, axis)
                case tree.PooledSpaceStatement(name=name, source=source, by=by):
                    self.spaces.setdefault(name.id, node)
                    if by is not None or source.id in self.coordinates:  # its one axis has its name
                        self.coordinates.setdefault(name.id, node)
                case tree.CoordinateStatement(name=name):
                    self.coordinates.setdefault(name.id, node)
                case tree.InputStatement(name=name, dimensions=dimensions):
                    self.inputs.setdefault(name.id, node)
                    if any(isinstance(each, tree.Name) and self._is_of_tokens(each.id) for each in dimensions):
                        self.coordinates.setdefault(name.id, node)
                case tree.RouteStatement(name=name):
                    self.routes.setdefault(name.id, node)

    def _is_of_tokens(self, dimension: str) -> bool:
        """Whether a dimension of an input is of tokens, so that `q.name` may be a value or a vector of the query."""
        return dimension in self.spaces or dimension in ("tokens", "queries", "keys")


def _declaring(declaration: tree.Node) -> Iterator[tree.Node]:
    match declaration:
        case tree.MacroDeclaration(parameters=parameters, lets=lets):
            yield from (*parameters, *lets)
        case tree.PatternDeclaration(parameters=parameters, statements=statements):
            yield from (*parameters, *statements)
        case tree.StackDeclaration(parameters=parameters):
            yield from parameters


def called(program: Program, function: tree.Name) -> Declared | None:
    """The macro, pattern or stack that a call names; None for functions of the language."""
    if function.id in FUNCTIONS:
        return None
    everything: tuple[Mapping[str, Declared], ...] = (
        program.macros(function.span.source),
        program.patterns,
        program.stacks,
    )
    return next((each[function.id] for each in everything if function.id in each), None)


def _axis_of(space: _Spaces | None, name: str) -> Declared | None:
    """The declaration of an axis of a space; the space itself if the axis has its name, or is of a pooled space."""
    if isinstance(space, tree.SpaceStatement):
        named = (axis for axis in space.axes if axis.name is not None and axis.name.id == name)
        return next(named, space)
    return space


def _value(program: Program, names: NameScope, around: Sequence[tree.Node], node: tree.Name) -> Declared | None:
    """The declaration of a bare name in an expression."""
    for each in reversed(around):
        variable = each.variable if isinstance(each, tree.Quantifier | tree.BranchStatement) else None
        if variable is not None and variable.id == node.id and isinstance(each, tree.Quantifier | tree.BranchStatement):
            return each
    declared: list[Mapping[str, Declared]] = [names.values, names.routes, names.inputs, names.spaces, names.coordinates]
    if any(isinstance(each, tree.CoordinateStatement | tree.OrderStatement) for each in around):
        declared.insert(0, names.coordinates)
    return next((each[node.id] for each in declared if node.id in each), None) or called(program, node)


def _parameter(program: Program, call: tree.Node, name: str) -> tree.Parameter | None:
    declared = called(program, call.function) if isinstance(call, tree.Call) else None
    if not isinstance(declared, tree.MacroDeclaration | tree.PatternDeclaration | tree.StackDeclaration):
        return None
    return next((each for each in declared.parameters if each.name.id == name), None)


def _used_file(program: Program, use: tree.UseDeclaration) -> tree.File | None:
    """The file that a `use` names, if it was read."""
    wanted = Path(use.span.source.name).parent / use.path.value
    return next((each for each in program.files if Path(each.span.source.name) == wanted), None)

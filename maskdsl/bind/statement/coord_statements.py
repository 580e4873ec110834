"""`coord` and `order`: expressions over one token, elaborated for each space that they apply to."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from maskdsl.base.diagnostics import Diagnostic
from maskdsl.base.errors.language.names import DuplicateName, MissingCoordinate, ReservedName
from maskdsl.base.errors.language.parameters import MissingArgument
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.bind.context.bound_values import Bad, Term, Value, describe
from maskdsl.bind.context.frame import Declared, Frame, SideWorld, StatementKind
from maskdsl.bind.context.reading import draft, unknown_space
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.names import RESERVED
from maskdsl.bind.expression.table_inputs import BATCH, heads_dimension
from maskdsl.ir.expressions import PAIR, Coordinate, Expression, Side
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import (
    Along,
    Computed,
    CoordinateDefinition,
    CoordinateSource,
    Dimension,
    DimensionKind,
    Given,
    Input,
    Sequence,
    Shuffled,
    Space,
)
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Rank
from maskdsl.syntax import tree


def _sides_of(world: Declared) -> tuple[Side, ...]:
    """One side where both have the same tokens."""
    return (Side.QUERY,) if world.self_attention else PAIR


def updated(world: Declared, side: Side, new: SideWorld) -> Declared:
    if world.self_attention:
        return replace(world, queries=new, keys=new)
    return replace(world, keys=new) if side is Side.KEY else replace(world, queries=new)


# Inputs with one token dimension


def with_given(declared: Input, world: Declared) -> Declared:
    """The world in which the tokens of an input have its values as a coordinate."""
    dimension = next(each for each in declared.dimensions if each.kind is DimensionKind.TOKENS)
    for side in _sides_of(world):
        before = world.side(side)
        spaces = [space for space in before.sequence.spaces if _gives(dimension, space, side, world)]
        if spaces:
            sources: tuple[tuple[str, CoordinateSource], ...] = tuple(
                (each.name, Given(declared.name)) for each in spaces
            )
            definition = CoordinateDefinition(declared.name, declared.type, sources, span=declared.span)
            world = updated(world, side, before.with_coordinate(definition, {}))
    return world


def _gives(dimension: Dimension, space: Space, side: Side, world: Declared) -> bool:
    if any(each.name == dimension.text for each in world.spaces()):
        return space.name == dimension.text
    return world.self_attention or (dimension.text == "keys") is (side is Side.KEY)


# coord


def with_coordinate(statement: tree.CoordinateStatement, frame: Frame, elaborate: Elaborate) -> Declared:
    """The world in which the tokens that can compute the coordinate have it."""
    world, name = frame.world, statement.name.id
    bad = replace(world, bad_names=world.bad_names | {name})
    if not _may_declare(statement, frame):
        return bad
    match statement.value:
        case tree.Call(function=tree.Name(id="rank")) as call:
            ranked = _with_rank(statement, call, frame, elaborate)
            return bad if ranked is None else ranked
    attempts = list(_attempts(statement.space, (statement.value,), frame, elaborate))
    chosen = _applicable(attempts, statement.space is not None, frame)
    if chosen is None:
        return bad
    for side, space, (value,) in chosen:
        assert isinstance(value, Term)
        if value.type is not Type.INT:
            what, found = f"the coordinate `{name}`", describe(value)
            frame.add(TypeMismatch(span=statement.value.span, what=what, found=found, expected="an integer"))
            return bad
        definition = CoordinateDefinition(
            name, Type.INT, ((space.name, _source(value.expression, world)),), span=statement.span
        )
        assert value.range is not None
        before = world.side(side)
        if before.sequence.has(space, name):
            kind = f"tokens of `{space.name}` have such a coordinate already"
            frame.add(DuplicateName(span=statement.name.span, name=name, kind=kind))
            return bad
        world = updated(world, side, before.with_coordinate(definition, {(name, space.name): value.range}))
    return world


def _with_rank(
    statement: tree.CoordinateStatement, call: tree.Call, frame: Frame, elaborate: Elaborate
) -> Declared | None:
    """The world in which tokens have their place among those of their space, sorted; None if it is wrong."""
    world, name = frame.world, statement.name.id
    if not call.arguments or any(argument.name is not None for argument in call.arguments):
        frame.add(MissingArgument(span=call.span, function="rank", name="what tokens are sorted by"))
        return None
    keys = [argument.value for argument in call.arguments]
    chosen = _applicable(list(_attempts(statement.space, keys, frame, elaborate)), statement.space is not None, frame)
    if chosen is None:
        return None
    for side, space, values in chosen:
        before = world.side(side)
        expressions = tuple(value.expression for value in values if isinstance(value, Term))
        given = f"{name}_of_{side}_{space.name}" if not world.self_attention else f"{name}_of_{space.name}"
        found = Rank(given, side, space.name, expressions, span=statement.span)
        kinds = trace(before.sequence, expressions).varies(draft(world))
        dimensions = (
            *((BATCH,) if DimensionKind.BATCH in kinds else ()),
            *((heads_dimension(world),) if DimensionKind.HEADS in kinds else ()),
            Dimension(DimensionKind.TOKENS, space.size, space.name),
        )
        world = replace(
            world,
            inputs=(*world.inputs, Input(given, Type.INT, dimensions, span=statement.span)),
            routed=(*world.routed, found),
        )
        definition = CoordinateDefinition(name, Type.INT, ((space.name, Given(given)),), span=statement.span)
        reach = {(name, space.name): Range(0, space.size - 1)}
        world = updated(world, side, before.with_coordinate(definition, reach))
    return world


def _source(expression: Expression, world: Declared) -> CoordinateSource:
    match expression:
        case Coordinate(name=name) if name in world.hidden:
            return world.hidden[name]
        case _:
            return Computed(expression)


def _may_declare(statement: tree.CoordinateStatement, frame: Frame) -> bool:
    name = statement.name
    if name.id in RESERVED or name.id == "i":
        frame.add(ReservedName(span=name.span, name=name.id))
        return False
    for space in frame.world.spaces():
        if space.axis(name.id) is not None:
            kind = f"an axis of `{space.name}` has this name"
            frame.add(DuplicateName(span=name.span, name=name.id, kind=kind))
            return False
    return _known_space(statement.space, frame)


def _known_space(name: tree.Name | None, frame: Frame) -> bool:
    known = [space.name for space in frame.world.spaces()]
    if name is None or name.id in known:
        return True
    unknown_space(frame, name.id, name.span, known)
    return False


# order


def with_order(statement: tree.OrderStatement, frame: Frame, elaborate: Elaborate) -> Declared:
    """The world in which the spaces that have all the keys are laid out by them."""
    world = frame.world
    if not _known_space(statement.space, frame):
        return world
    attempts = list(_attempts(statement.space, statement.keys, frame, elaborate))
    chosen = _applicable(attempts, statement.space is not None, frame)
    for side, space, values in chosen or ():
        sequence = world.side(side).sequence
        number = sequence.spaces.index(space)
        order = list(sequence.order or [()] * len(sequence.spaces))
        if order[number]:
            kind = "this space has an order already"
            frame.add(DuplicateName(span=statement.span, name=space.name, kind=kind))
            continue
        order[number] = tuple(value.expression for value in values if isinstance(value, Term))
        new = replace(world.side(side), sequence=replace(sequence, order=tuple(order)))
        world = updated(world, side, new)
    return world


def auto_spaces(statements: Iterable[tree.AutoOrderStatement], frame: Frame) -> tuple[str, ...]:
    """The spaces whose order is to be found: the one that is said, or all that have no order by keys."""
    world = frame.world
    sequences = [world.side(side).sequence for side in _sides_of(world)]
    pairs = [pair for each in sequences for pair in zip(each.spaces, each.order, strict=False)]
    ordered = {space.name for space, keys in pairs if keys}
    found: dict[str, None] = {}
    for statement in statements:
        if not _known_space(statement.space, frame):
            continue
        names = [space.name for space in world.spaces()] if statement.space is None else [statement.space.id]
        free = [name for name in names if name not in ordered and name not in found]
        if not free:
            kind = "this space has an order already"
            frame.add(DuplicateName(span=statement.span, name=names[0], kind=kind))
        found.update(dict.fromkeys(free))
    return tuple(found)


# Both


_Attempt = tuple[Side, Space, list[Value], list[Diagnostic]]


def _attempts(
    qualifier: tree.Name | None, nodes: Iterable[tree.Expression], frame: Frame, elaborate: Elaborate
) -> Iterator[_Attempt]:
    """The expressions for the tokens of every space that may be meant, with what is wrong there."""
    for side in _sides_of(frame.world):
        for space in frame.world.side(side).sequence.spaces:
            if qualifier is not None and space.name != qualifier.id:
                continue
            trial = replace(
                frame,
                report=frame.report.trial(),
                statement=StatementKind.TOKEN,
                pairs=frozenset({(space.name, space.name)}),
                token_side=side,
                bare_coordinates=True,
            )
            values = [elaborate(node, trial) for node in nodes]
            for node, value in zip(nodes, values, strict=True):
                if not isinstance(value, Term | Bad):
                    found, expected = describe(value), "a number"
                    trial.add(TypeMismatch(span=node.span, what="this", found=found, expected=expected))
            yield side, space, values, list(trial.report.found.values())


def _applicable(attempts: list[_Attempt], said: bool, frame: Frame) -> list[tuple[Side, Space, list[Value]]] | None:
    """The spaces whose tokens have all that is read; None, with a report, if there is none or more is wrong."""
    lacking = [found for *_, found in attempts if found]
    serious = [each for found in lacking for each in found if said or not isinstance(each, MissingCoordinate)]
    chosen = [(side, space, values) for side, space, values, found in attempts if not found]
    if not chosen and not serious and lacking:
        serious = lacking[0]
    for diagnostic in serious:
        frame.report.add(diagnostic)
    if serious or any(isinstance(value, Bad) for *_, values in chosen for value in values):
        return None
    return chosen


# Curves and shuffles


def with_hidden(world: Declared, used: frozenset[str]) -> Declared:
    """The world with the curves and shuffles among `used` as coordinates, in front of those that read them."""
    for side in _sides_of(world):
        before = world.side(side)
        definitions = [
            CoordinateDefinition(name, Type.INT, sources)
            for name, source in world.hidden.items()
            if name in used and (sources := _hidden_sources(source, before.sequence))
        ]
        coordinates = (*definitions, *before.sequence.coordinates)
        new = replace(before, sequence=replace(before.sequence, coordinates=coordinates))
        world = updated(world, side, new)
    return world


def _hidden_sources(source: Along | Shuffled, sequence: Sequence) -> tuple[tuple[str, CoordinateSource], ...]:
    axes = source.axes if isinstance(source, Along) else (source.of,) if source.of != "i" else ()
    return tuple(
        (space.name, source) for space in sequence.spaces if all(space.axis(name) is not None for name in axes)
    )

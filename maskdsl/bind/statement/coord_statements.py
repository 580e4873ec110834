"""Binds `coord` and `order`: expressions over one token, elaborated for each space that they apply to."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from maskdsl.base.diagnostics import Diagnostic
from maskdsl.base.errors.language.names import DuplicateName, MissingCoordinate, ReservedName
from maskdsl.base.errors.language.parameters import MissingArgument
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.bind.context.bound_values import Bad, Term, Value, describe
from maskdsl.bind.context.frame import Declared, Frame, SideDeclared, StatementKind
from maskdsl.bind.context.reading import draft, unknown_space
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.names import RESERVED
from maskdsl.bind.expression.table_inputs import BATCH, heads_dimension
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import (
    Along,
    Computed,
    CoordinateDefinition,
    CoordinateSource,
    Given,
    Sequence,
    Shuffled,
    Space,
)
from maskdsl.ir.expressions import PAIR, Coordinate, Expression, Side
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Rank
from maskdsl.syntax import tree


def sides_of(declared: Declared) -> tuple[Side, ...]:
    """The sides to declare for: one stands for both in self-attention."""
    return (Side.QUERY,) if declared.self_attention else PAIR


def updated(declared: Declared, side: Side, new: SideDeclared) -> Declared:
    """The declarations with this side replaced; in self-attention both sides are."""
    if declared.self_attention:
        return replace(declared, queries=new, keys=new)
    return replace(declared, keys=new) if side is Side.KEY else replace(declared, queries=new)


# Inputs with one token dimension


def with_given(given: Input, declared: Declared) -> Declared:
    """The declarations in which the tokens of an input have its values as a coordinate."""
    dimension = next(each for each in given.dimensions if each.kind is DimensionKind.TOKENS)
    for side in sides_of(declared):
        before = declared.side(side)
        spaces = [space for space in before.sequence.spaces if _gives(dimension, space, side, declared)]
        if spaces:
            sources: tuple[tuple[str, CoordinateSource], ...] = tuple((each.name, Given(given.name)) for each in spaces)
            definition = CoordinateDefinition(given.name, given.type, sources, span=given.span)
            declared = updated(declared, side, before.with_coordinate(definition, {}))
    return declared


def _gives(dimension: Dimension, space: Space, side: Side, declared: Declared) -> bool:
    if any(each.name == dimension.text for each in (*declared.spaces(), *declared.grouped())):
        return space.name == dimension.text
    return declared.self_attention or (dimension.text == "keys") is (side is Side.KEY)


# coord


def with_coordinate(statement: tree.CoordinateStatement, frame: Frame, elaborate: Elaborate) -> Declared:
    """The declarations in which all tokens that can compute the coordinate have it."""
    declared, name = frame.declared, statement.name.id
    bad = replace(declared, bad_names=declared.bad_names | {name})
    if _is_of_pooled_tokens(statement, declared):
        return declared
    if not _may_declare(statement, frame):
        return bad
    match statement.value:
        case tree.Call(function=tree.Name(id="rank")) as call:
            ranked = _with_rank(statement, call, frame, elaborate)
            return bad if ranked is None else ranked
    attempts = list(_attempts(statement.space, (statement.value,), frame, elaborate))
    if all(errors for *_, errors in attempts) and _groups_pooled_tokens(name, declared):
        return declared
    chosen = _applicable(attempts, statement.space is not None, frame)
    if chosen is None:
        return bad
    for side, space, (value,) in chosen:
        assert isinstance(value, Term)
        if value.type is not Type.INT:
            what, result = f"the coordinate `{name}`", describe(value)
            frame.add(TypeMismatch(span=statement.value.span, what=what, found=result, expected="an integer"))
            return bad
        definition = CoordinateDefinition(
            name, Type.INT, ((space.name, _source(value.expression, declared)),), span=statement.span
        )
        assert isinstance(value.range, Range)
        before = declared.side(side)
        if before.sequence.has(space, name):
            kind = f"tokens of `{space.name}` already have a coordinate of this name"
            frame.add(DuplicateName(span=statement.name.span, name=name, kind=kind))
            return bad
        declared = updated(declared, side, before.with_coordinate(definition, {(name, space.name): value.range}))
    return declared


def _is_of_pooled_tokens(statement: tree.CoordinateStatement, declared: Declared) -> bool:
    """Whether it names a space that others are pooled from and that stands in no sequence: no pair reads its tokens."""
    named, spaces = statement.space, {*declared.spaces()}
    return named is not None and any(each.name == named.id and each not in spaces for each in declared.sources())


def _groups_pooled_tokens(name: str, declared: Declared) -> bool:
    """Whether tokens are pooled by a coordinate of this name, or by one that is computed from it."""
    every = (groups.tokens for space in declared.spaces() for _, groups in space.groupings)
    return any(tokens.has(tokens.spaces[0], name) for tokens in every)


def _with_rank(
    statement: tree.CoordinateStatement, call: tree.Call, frame: Frame, elaborate: Elaborate
) -> Declared | None:
    """The declarations with a coordinate for each token's rank in its sorted space; None, with a report, if wrong."""
    declared, name = frame.declared, statement.name.id
    if not call.arguments or any(argument.name is not None for argument in call.arguments):
        frame.add(MissingArgument(span=call.span, function="rank", name="the value to sort by"))
        return None
    keys = [argument.value for argument in call.arguments]
    chosen = _applicable(list(_attempts(statement.space, keys, frame, elaborate)), statement.space is not None, frame)
    if chosen is None:
        return None
    for side, space, values in chosen:
        before = declared.side(side)
        expressions = tuple(value.expression for value in values if isinstance(value, Term))
        given = f"{name}_of_{side}_{space.name}" if not declared.self_attention else f"{name}_of_{space.name}"
        rank = Rank(given, side, space.name, expressions, span=statement.span)
        kinds = trace(before.sequence, expressions).varies(draft(declared))
        dimensions = (
            *((BATCH,) if DimensionKind.BATCH in kinds else ()),
            *((heads_dimension(declared),) if DimensionKind.HEADS in kinds else ()),
            Dimension(DimensionKind.TOKENS, space.size, space.name),
        )
        declared = replace(
            declared,
            inputs=(*declared.inputs, Input(given, Type.INT, dimensions, span=statement.span)),
            routed=(*declared.routed, rank),
        )
        definition = CoordinateDefinition(name, Type.INT, ((space.name, Given(given)),), span=statement.span)
        reach = {(name, space.name): Range(0, space.size - 1)}
        declared = updated(declared, side, before.with_coordinate(definition, reach))
    return declared


def _source(expression: Expression, declared: Declared) -> CoordinateSource:
    match expression:
        case Coordinate(name=name) if name in declared.hidden:
            return declared.hidden[name]
        case _:
            return Computed(expression)


def _may_declare(statement: tree.CoordinateStatement, frame: Frame) -> bool:
    name = statement.name
    if name.id in RESERVED or name.id == "i":
        frame.add(ReservedName(span=name.span, name=name.id))
        return False
    for space in frame.declared.spaces():
        if space.axis(name.id) is not None:
            kind = f"an axis of `{space.name}` has this name"
            frame.add(DuplicateName(span=name.span, name=name.id, kind=kind))
            return False
    return _known_space(statement.space, frame)


def _known_space(name: tree.Name | None, frame: Frame) -> bool:
    known = [space.name for space in frame.declared.spaces()]
    if name is None or name.id in known:
        return True
    unknown_space(frame, name.id, name.span, known)
    return False


# order


def with_order(statement: tree.OrderStatement, frame: Frame, elaborate: Elaborate) -> Declared:
    """The declarations in which every space that has all sort keys is laid out by them."""
    declared = frame.declared
    if not _known_space(statement.space, frame):
        return declared
    attempts = list(_attempts(statement.space, statement.keys, frame, elaborate))
    chosen = _applicable(attempts, statement.space is not None, frame)
    for side, space, values in chosen or ():
        sequence = declared.side(side).sequence
        number = sequence.spaces.index(space)
        order = list(sequence.order or [()] * len(sequence.spaces))
        if order[number]:
            kind = "this space already has an order"
            frame.add(DuplicateName(span=statement.span, name=space.name, kind=kind))
            continue
        order[number] = tuple(value.expression for value in values if isinstance(value, Term))
        new = replace(declared.side(side), sequence=replace(sequence, order=tuple(order)))
        declared = updated(declared, side, new)
    return declared


def auto_spaces(statements: Iterable[tree.AutoOrderStatement], frame: Frame) -> tuple[str, ...]:
    """The spaces whose order the analysis chooses: the named one, or all without an order by keys."""
    declared = frame.declared
    sequences = [declared.side(side).sequence for side in sides_of(declared)]
    pairs = [pair for each in sequences for pair in zip(each.spaces, each.order, strict=False)]
    ordered = {space.name for space, keys in pairs if keys}
    auto: dict[str, None] = {}
    for statement in statements:
        if not _known_space(statement.space, frame):
            continue
        names = [space.name for space in declared.spaces()] if statement.space is None else [statement.space.id]
        free = [name for name in names if name not in ordered and name not in auto]
        if not free:
            kind = "this space already has an order"
            frame.add(DuplicateName(span=statement.span, name=names[0], kind=kind))
        auto.update(dict.fromkeys(free))
    return tuple(auto)


# Trying a statement on each space


_Attempt = tuple[Side, Space, list[Value], list[Diagnostic]]


def _attempts(
    qualifier: tree.Name | None, nodes: Iterable[tree.Expression], frame: Frame, elaborate: Elaborate
) -> Iterator[_Attempt]:
    """The values of the expressions for every space that may be meant, with the errors there."""
    for side in sides_of(frame.declared):
        for space in frame.declared.side(side).sequence.spaces:
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
                    result, expected = describe(value), "a number"
                    trial.add(TypeMismatch(span=node.span, what="this", found=result, expected=expected))
            yield side, space, values, list(trial.report.errors.values())


def _applicable(attempts: list[_Attempt], is_named: bool, frame: Frame) -> list[tuple[Side, Space, list[Value]]] | None:
    """The spaces whose tokens have all coordinates that are read; None, with a report, if there is none.

    A missing coordinate is an error only in a space that the statement names; other errors always are.
    """
    lacking = [errors for *_, errors in attempts if errors]
    serious = [each for errors in lacking for each in errors if is_named or not isinstance(each, MissingCoordinate)]
    chosen = [(side, space, values) for side, space, values, errors in attempts if not errors]
    if not chosen and not serious and lacking:
        serious = lacking[0]
    for diagnostic in serious:
        frame.report.add(diagnostic)
    if serious or any(isinstance(value, Bad) for *_, values in chosen for value in values):
        return None
    return chosen


# Curves and shuffles


def with_hidden(declared: Declared, used: frozenset[str]) -> Declared:
    """The declarations with the curves and shuffles among `used` as coordinates, before those that read them."""
    for side in sides_of(declared):
        before = declared.side(side)
        definitions = [
            CoordinateDefinition(name, Type.INT, sources)
            for name, source in declared.hidden.items()
            if name in used and (sources := _hidden_sources(source, before.sequence))
        ]
        coordinates = (*definitions, *before.sequence.coordinates)
        new = replace(before, sequence=replace(before.sequence, coordinates=coordinates))
        declared = updated(declared, side, new)
    return declared


def _hidden_sources(source: Along | Shuffled, sequence: Sequence) -> tuple[tuple[str, CoordinateSource], ...]:
    axes = source.axes if isinstance(source, Along) else (source.of,) if source.of != "i" else ()
    return tuple(
        (space.name, source) for space in sequence.spaces if all(space.axis(name) is not None for name in axes)
    )

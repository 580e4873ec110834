"""Binds spaces, and the sequences of queries and keys made of them."""

from collections.abc import Callable, Mapping

from maskdsl.base.errors.language.limits import TooLong, TooManyAxes
from maskdsl.base.errors.language.names import DuplicateName, ReservedName
from maskdsl.base.errors.language.spaces import BadLength, BadSequences, TupleLength, UnknownPooling
from maskdsl.base.errors.language.types import NotConstant, TypeMismatch
from maskdsl.base.limits import MOST_TOKENS
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, TupleValue, describe, why_unknown
from maskdsl.bind.context.frame import Frame, SideDeclared
from maskdsl.bind.context.reading import unknown_space
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.names import RESERVED
from maskdsl.bind.statement.pool_groups import Alone, declare_groups
from maskdsl.ir.declared import sequences as ir
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree

_MOST_AXES = 4


def declare_space(statement: tree.SpaceStatement, frame: Frame, elaborate: Elaborate) -> ir.Space | Bad:
    """The space that a statement declares; wrong axes are reported and have length 1 or are left out."""
    name = statement.name.id
    if len(statement.axes) > _MOST_AXES:
        count = len(statement.axes)
        return frame.add(TooManyAxes(span=statement.name.span, name=name, count=count, limit=_MOST_AXES))
    axes: list[ir.Axis] = []
    for axis in statement.axes:
        axis_name = axis.name or statement.name
        if axis.name is None and len(statement.axes) > 1:
            what, hint = "an axis has no name", "each of several axes needs one: `y = 8`"
            frame.add(BadSequences(span=axis.span, what=what, hint=hint))
        elif axis_name.id in RESERVED or axis_name.id == "i":
            frame.add(ReservedName(span=axis_name.span, name=axis_name.id))
        elif any(each.name == axis_name.id for each in axes):
            kind = "the space already has an axis of this name"
            frame.add(DuplicateName(span=axis_name.span, name=axis_name.id, kind=kind))
        else:
            length = _length(axis, frame, elaborate)
            axes.append(ir.Axis(axis_name.id, 1 if isinstance(length, Bad) else length))
    space = ir.Space(name, tuple(axes), span=statement.span)
    if space.size > MOST_TOKENS:
        what = f"the space `{name}`"
        return frame.add(TooLong(span=statement.span, what=what, count=space.size, limit=MOST_TOKENS))
    return space


def _length(axis: tree.AxisDeclaration, frame: Frame, elaborate: Elaborate) -> int | Bad:
    value = elaborate(axis.length, frame)
    if isinstance(value, Bad):
        return BAD
    if not isinstance(value, Term) or value.type is not Type.INT or value.constant is None:
        return frame.add(NotConstant(span=axis.length.span, what="the length of an axis", reason=why_unknown(value)))
    if value.constant < 0:
        what = "the length of an axis"
        return frame.add(BadLength(span=axis.length.span, what=what, value=int(value.constant), least=0))
    return int(value.constant)


def declare_pooled_space(
    statement: tree.PooledSpaceStatement,
    spaces: Mapping[str, ir.Space],
    frame: Frame,
    elaborate: Elaborate,
    alone: Callable[[ir.Space], Alone],
) -> ir.Space | Bad:
    """The space of the pools of a space declared above it: boxes, with axes of the same names, or groups."""
    name, pooling = statement.name.id, statement.pooling
    kinds = {each.value: each for each in ir.PoolingKind}
    if pooling.id not in kinds:
        nearest = frame.nearest(pooling.id, kinds)
        frame.add(UnknownPooling(span=pooling.span, name=pooling.id, nearest=nearest))
    source = spaces.get(statement.source.id)
    if source is None:
        return unknown_space(frame, statement.source.id, statement.source.span, spaces)
    if pooling.id not in kinds or not source.axes:  # a source without axes was wrong and is reported
        return BAD
    if name == "i" and (statement.by is not None or source.axes[0].name == source.name):
        return frame.add(ReservedName(span=statement.name.span, name=name))
    if statement.by is not None:
        grouped = declare_groups(statement, statement.by, source, frame, elaborate, alone(source))
        if isinstance(grouped, Bad):
            return BAD
        groups, count = grouped
        pools = ir.Pooling(kinds[pooling.id], source, groups)
        return ir.Space(name, (ir.Axis(name, count),), pools, span=statement.span)
    assert statement.size is not None
    box = _box(statement.size, source, frame, elaborate)
    if isinstance(box, Bad):
        return BAD
    renamed = {source.name: name} if len(source.axes) == 1 else {}
    pairs = zip(source.axes, box, strict=True)
    axes = tuple(ir.Axis(renamed.get(axis.name, axis.name), -(-axis.length // side)) for axis, side in pairs)
    return ir.Space(name, axes, ir.Pooling(kinds[pooling.id], source, ir.PoolBoxes(box)), span=statement.span)


def _box(node: tree.Expression, source: ir.Space, frame: Frame, elaborate: Elaborate) -> tuple[int, ...] | Bad:
    """The length of a box along each axis of the source, at most the whole axis."""
    value, span = elaborate(node, frame), node.span
    match value:
        case Bad():
            return BAD
        case TupleValue(items=sides):
            if len(sides) != len(source.axes):
                count, hint = len(source.axes), f"one for each axis of `{source.name}`"
                return frame.add(TupleLength(span=span, found=len(sides), expected=count, hint=hint))
        case Term(type=Type.INT, constant=int(side)):
            sides = (side,) * len(source.axes)
        case _:
            result, expected = describe(value), "an integer or a tuple"
            return frame.add(TypeMismatch(span=span, what="a box", found=result, expected=expected))
    short = [side for side in sides if side < 1]
    if short:
        return frame.add(BadLength(span=span, what="the side of a box", value=short[0]))
    return tuple(min(side, max(axis.length, 1)) for side, axis in zip(sides, source.axes, strict=True))


def declare_sequences(
    pattern: tree.PatternDeclaration, spaces: Mapping[str, ir.Space], frame: Frame
) -> tuple[SideDeclared, SideDeclared, bool] | Bad:
    """The queries, the keys, and whether they are the same tokens."""
    statements = {
        kind: [each for each in pattern.statements if isinstance(each, tree.SequenceStatement) and each.kind == kind]
        for kind in ("tokens", "queries", "keys")
    }
    for kind, several in statements.items():
        for again in several[1:]:
            frame.add(DuplicateName(span=again.span, name=kind, kind="the pattern already has such a line"))
    made = {kind: _sequence(several[0], spaces, frame) if several else None for kind, several in statements.items()}
    names = ", ".join(f"`{name}`" for name in spaces)
    span = pattern.name.span
    if any(isinstance(each, Bad) for each in made.values()):
        return BAD
    match made["tokens"], made["queries"], made["keys"]:
        case None, None, None if len(spaces) == 1:
            whole = SideDeclared(ir.Sequence(tuple(spaces.values())))
            return whole, whole, True
        case None, None, None if not spaces:
            what, hint = "the pattern has no space", "`space tokens[n]` declares one"
            return frame.add(BadSequences(span=span, what=what, hint=hint))
        case None, None, None:
            return frame.add(_without_sequence(spaces, span))
        case ir.Sequence() as sequence, None, None:
            used = sequence.spaces
            first, second = SideDeclared(sequence), None
        case None, ir.Sequence() as queries, ir.Sequence() as keys if queries == keys:  # as `tokens` says it
            used = queries.spaces
            first, second = SideDeclared(queries), None
        case None, ir.Sequence() as queries, ir.Sequence() as keys:
            used = (*queries.spaces, *keys.spaces)
            first, second = SideDeclared(queries), SideDeclared(keys)
        case _:
            what = "a pattern has either `tokens`, or `queries` and `keys`"
            at = next(several[0] for several in statements.values() if several)
            return frame.add(BadSequences(span=at.span, what=what, hint=f"the spaces are {names}"))
    needed = {each for space in used for each in space.chain}
    for space in spaces.values():
        if space not in needed:
            what, hint = f"the space `{space.name}` is in no sequence", "no token is in it"
            frame.add(BadSequences(span=space.span, what=what, hint=hint))
    return first, second or first, second is None


def _without_sequence(spaces: Mapping[str, ir.Space], span: Span) -> BadSequences:
    given = " ++ ".join(name for name, space in spaces.items() if space.pooling is None)
    every = " ++ ".join(spaces)
    meant = f"`tokens {every}`" if given == every else f"`queries {given}` and `keys {every}`"
    return BadSequences(span=span, what="the pattern has several spaces", hint=f"write their order: {meant}")


def _sequence(statement: tree.SequenceStatement, spaces: Mapping[str, ir.Space], frame: Frame) -> ir.Sequence | Bad:
    known: list[ir.Space] = []
    for name in statement.spaces:
        if name.id not in spaces:
            unknown_space(frame, name.id, name.span, spaces)
        elif spaces[name.id] in known:
            frame.add(DuplicateName(span=name.span, name=name.id, kind="a sequence has each space once"))
        else:
            known.append(spaces[name.id])
    sequence = ir.Sequence(tuple(known))
    if len(known) < len(statement.spaces):
        return BAD
    if sequence.length > MOST_TOKENS:
        return frame.add(TooLong(span=statement.span, what="the sequence", count=sequence.length, limit=MOST_TOKENS))
    return sequence

"""Coordinates: which tokens have them, what they are known to lie between, and how long axes are.

Where guards contradict each other no token can be meant, and what is said there is about any that has what is read.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from maskdsl.base.errors.language.limits import TooLong
from maskdsl.base.errors.language.names import MissingCoordinate, NoPairHere, UnknownCoordinate
from maskdsl.base.errors.language.spaces import AmbiguousLength, NoCommonAxes, NotAxis, UnknownSpace
from maskdsl.base.errors.language.types import NotConstant
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, AxisValue, Bad, Term, constant
from maskdsl.bind.context.frame import Declared, Frame, SideWorld
from maskdsl.ir.expressions import Constant, Coordinate, Side
from maskdsl.ir.facts.ranges import INT32, Range
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import Along, CurveKind, MaskIR, Shuffled, Space
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree

_MOST_COUNTED = 2**26
"""A coordinate of more tokens is not evaluated for its length."""


def read(frame: Frame, side: Side, name: str, span: Span) -> Term | Bad:
    """The coordinate of the token of one side."""
    world = frame.side(side)
    if name in frame.world.bad_names:
        return BAD
    having = holders(frame, (side,), name)
    if not having:
        return _unknown(frame, name, span, _worlds(frame, (side,)))
    spaces = frame.spaces(side) or [space for space in world.sequence.spaces if world.sequence.has(space, name)]
    lacking = [space.name for space in spaces if not world.sequence.has(space, name)]
    if lacking:
        return frame.add(_missing(side, name, span, lacking, having))
    definition = world.sequence.definition(name)
    kind = Type.INT if definition is None else definition.type
    expression = Coordinate(side, name, kind, span=span)
    return Term(expression, coordinate_range(world, name, spaces) if kind is Type.INT else None)


def _worlds(frame: Frame, sides: Iterable[Side]) -> list[SideWorld]:
    """Whose coordinates a name may mean. One token stands for those of either side, which are tried in turn."""
    pair = [frame.world.queries, frame.world.keys]
    return [world for side in sides for world in (pair if side is Side.TOKEN else [frame.side(side)])]


def holders(frame: Frame, sides: Iterable[Side], name: str) -> list[str]:
    """The spaces whose tokens have a coordinate of this name."""
    sequences = [world.sequence for world in _worlds(frame, sides)]
    return [each.name for sequence in sequences for each in sequence.spaces if sequence.has(each, name)]


def _missing(side: Side, name: str, span: Span, lacking: list[str], having: list[str]) -> MissingCoordinate:
    guard = {
        Side.QUERY: f"`{having[0]} -> all where ...` looks at queries of `{having[0]}` only",
        Side.KEY: f"`all -> {having[0]} where ...` looks at keys of `{having[0]}` only",
        Side.TOKEN: f"say `{having[0]}` in front of the name or behind `order`",
    }
    spaces = ", ".join(f"`{each}`" for each in lacking)
    return MissingCoordinate(span=span, name=name, spaces=spaces, side=side, hint=guard[side])


def _unknown(frame: Frame, name: str, span: Span, worlds: Iterable[SideWorld]) -> Bad:
    worlds = list(worlds)
    if not any(world.sequence.spaces for world in worlds):
        return frame.add(NoPairHere(span=span, hint="this must be known before there are tokens"))
    known = list(dict.fromkeys(each for world in worlds for each in world.coordinate_names()))
    nearest = frame.nearest(name, known)
    shown = "the coordinates are " + ", ".join(f"`{each}`" for each in known[:8])
    return frame.add(UnknownCoordinate(span=span, name=name, known=shown, nearest=nearest))


def unknown_space(frame: Frame, name: str, span: Span, known: Collection[str], *others: str) -> Bad:
    """Reports a space that is none of those known; `others` are words that may have been meant as well."""
    shown = "the spaces are " + ", ".join(f"`{each}`" for each in known) if known else "none is declared"
    nearest = frame.nearest(name, known, others)
    return frame.add(UnknownSpace(span=span, name=name, known=shown, nearest=nearest))


def coordinate_range(world: SideWorld, name: str, spaces: Iterable[Space]) -> Range:
    """What the coordinate of a token in one of these spaces lies between."""
    ranges = [_range_in(world, name, space) for space in spaces]
    result = ranges[0]
    for each in ranges[1:]:
        result = result.joined(each)
    return result


def _range_in(world: SideWorld, name: str, space: Space) -> Range:
    if name == "i":
        offset = dict(zip(world.sequence.spaces, world.sequence.offsets, strict=True))[space]
        return Range(offset, offset + space.size - 1)
    if (name, space.name) in world.ranges:
        return world.ranges[name, space.name]
    axis = space.axis(name)
    return INT32 if axis is None else Range(0, axis.length - 1)


def length(frame: Frame, name: str, span: Span, sides: Sequence[Side], space: str | None = None) -> Term | Bad:
    """`len(name)`, for the tokens that may be meant: those of a space if it is said."""
    found: dict[int, None] = {}
    for side in sides:
        world = frame.side(side)
        reachable = frame.spaces(side)
        for each in reachable or world.sequence.spaces:
            if space not in (None, each.name) or (found and not reachable):
                continue
            if name == "i":
                found[world.sequence.length] = None
            elif world.sequence.has(each, name):
                count = _length_in(frame, world, each, name, span)
                if count is None:
                    return BAD
                found[count] = None
    if not found:
        having = holders(frame, sides, name) if space is None else []
        if having:
            side = next(iter(sides))
            return frame.add(_missing(side, name, span, [each.name for each in frame.spaces(side)], having))
        return _unknown(frame, name, span, _worlds(frame, sides))
    if len(found) > 1:
        values = ", ".join(map(str, found))
        example = frame.side(next(iter(sides))).sequence.spaces[0].name
        return frame.add(AmbiguousLength(span=span, name=name, values=values, space=example))
    return constant(next(iter(found)), span)


def _length_in(frame: Frame, world: SideWorld, space: Space, name: str, span: Span) -> int | None:
    """The axis's length; of another coordinate one more than its largest value."""
    axis = space.axis(name)
    if axis is not None:
        return axis.length
    definition = world.sequence.definition(name)
    assert definition is not None
    source = dict(definition.sources)[space.name]
    if isinstance(source, Along | Shuffled):
        return _range_in(world, name, space).high + 1
    if not trace(world.sequence, [Coordinate(Side.TOKEN, name)]).is_fixed:
        reason = "this depends on an input, a head or a batch entry"
        frame.add(NotConstant(span=span, what=f"the length of `{name}`", reason=reason))
        return None
    if world.sequence.length > _MOST_COUNTED:
        frame.add(TooLong(span=span, what="the sequence", count=world.sequence.length, limit=_MOST_COUNTED))
        return None
    values = Coordinates(draft(frame.world), world.sequence, {}).values(name)
    offset = dict(zip(world.sequence.spaces, world.sequence.offsets, strict=True))[space]
    return int(np.max(values[offset : offset + space.size])) + 1


def draft(world: Declared) -> MaskIR:
    """What is known so far as a mask, to evaluate its coordinates."""
    return MaskIR(
        name="",
        parameters=(),
        heads=world.heads.count,
        queries=world.queries.sequence,
        keys=world.keys.sequence,
        self_attention=world.self_attention,
        inputs=world.inputs,
        attend=(),
        require=(),
        relation=Constant(False),
    )


def axis_name(frame: Frame, node: tree.Expression) -> str | Bad:
    """The coordinate that an argument for an axis names, which some token must have."""
    if not isinstance(node, tree.Name):
        return frame.add(NotAxis(span=node.span))
    value = frame.names.get(node.id)
    if isinstance(value, AxisValue):
        return value.name
    worlds = _worlds(frame, frame.sides or (Side.QUERY, Side.KEY))
    if node.id in frame.world.bad_names:
        return BAD
    if not any(world.sequence.has(space, node.id) for world in worlds for space in world.sequence.spaces):
        return _unknown(frame, node.id, node.span, worlds)
    return node.id


def common_axes(frame: Frame, span: Span, function: str, width: int | None = None) -> tuple[str, ...] | Bad:
    """The axes of the space that the tokens are in, which must be the same ones on both sides.

    Where no tokens can be meant, those of any space: of one with `width` axes, if there is one.
    """
    if not frame.sides:
        reason = "there is none here"
        return frame.add(NoCommonAxes(span=span, reason=reason, function=function))
    spaces = {space.name: space for side in frame.sides for space in frame.spaces(side)}
    if not spaces:
        known = list(frame.world.spaces())
        fitting = [space for space in known if len(space.axes) == width]
        spaces = {space.name: space for space in (fitting or known)[:1]}
    found = {tuple(axis.name for axis in space.axes) for space in spaces.values()}
    if len(found) > 1:
        names = ", ".join(f"`{name}`" for name in spaces)
        reason = f"the tokens here may be in {names}"
        return frame.add(NoCommonAxes(span=span, reason=reason, function=function))
    return found.pop()


CURVES = {kind.value: kind for kind in CurveKind}


def read_hidden(frame: Frame, side: Side, source: Along | Shuffled, span: Span) -> Term | Bad:
    """The place of a token along a curve, or shuffled: a coordinate of its own, named by its text."""
    match source:
        case Along(kind=kind, axes=axes):
            name = f"{kind.value}({', '.join(axes)})"
        case Shuffled(of=of, seed=seed):
            name, axes = f"shuffle({of}, {seed})", (of,)
    for axis in axes:  # also says who lacks one
        if isinstance(read(frame, side, axis, span), Bad):
            return BAD
    frame.world.hidden[name] = source
    ranges = [Range(0, _hidden_length(frame.side(side), source, space) - 1) for space in frame.spaces(side)]
    reach = Range(0, max((each.high for each in ranges), default=0))
    return Term(Coordinate(side, name, span=span), reach)


def _hidden_length(world: SideWorld, source: Along | Shuffled, space: Space) -> int:
    match source:
        case Along(axes=axes):
            size = 1
            for name in axes:
                axis = space.axis(name)
                assert axis is not None
                size *= axis.length
            return size
        case Shuffled(of="i"):
            return world.sequence.length
        case Shuffled(of=of):
            axis = space.axis(of)
            assert axis is not None
            return axis.length

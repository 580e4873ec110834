"""Reads coordinates: which tokens have them, their static ranges, and the lengths of axes.

If guards contradict each other, no token can be meant; a read there stands for any token that has the coordinate.
"""

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from maskdsl.base.errors.language.limits import TooLong
from maskdsl.base.errors.language.names import MissingCoordinate, NoPairHere, UnknownCoordinate
from maskdsl.base.errors.language.spaces import AmbiguousLength, NoCommonAxes, NotAxis, UnknownSpace
from maskdsl.base.errors.language.tables import NoTokens
from maskdsl.base.errors.language.types import NotConstant
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, AxisValue, Bad, Term, constant
from maskdsl.bind.context.frame import Declared, Frame, SideDeclared
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.declared.sequences import Along, CurveKind, Shuffled, Space
from maskdsl.ir.expressions import Constant, Coordinate, Side
from maskdsl.ir.facts.ranges import INT32, Range
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree

_MOST_COUNTED = 2**26
"""The most tokens for which a coordinate is evaluated to find its length."""


def read(frame: Frame, side: Side, name: str, span: Span) -> Term | Bad:
    """The coordinate of the token of one side; BAD, with a report, if a token that may be meant lacks it."""
    tokens = frame.side(side)
    if name in frame.declared.bad_names:
        return BAD
    having = holders(frame, (side,), name)
    if not having:
        return _unknown(frame, name, span, _candidates(frame, (side,)))
    spaces = frame.spaces(side) or [space for space in tokens.sequence.spaces if tokens.sequence.has(space, name)]
    lacking = [space.name for space in spaces if not tokens.sequence.has(space, name)]
    if lacking:
        return frame.add(_missing(side, name, span, lacking, having))
    definition = tokens.sequence.definition(name)
    kind = Type.INT if definition is None else definition.type
    expression = Coordinate(side, name, kind, span=span)
    return Term(expression, coordinate_range(tokens, name, spaces) if kind is Type.INT else None)


def _candidates(frame: Frame, sides: Iterable[Side]) -> list[SideDeclared]:
    """The tokens whose coordinates a name may mean. A lone token may be of either side; both are tried in turn."""
    pair = [frame.declared.queries, frame.declared.keys]
    return [tokens for side in sides for tokens in (pair if side is Side.TOKEN else [frame.side(side)])]


def holders(frame: Frame, sides: Iterable[Side], name: str) -> list[str]:
    """The spaces whose tokens have a coordinate of this name."""
    sequences = [tokens.sequence for tokens in _candidates(frame, sides)]
    return [each.name for sequence in sequences for each in sequence.spaces if sequence.has(each, name)]


def _missing(side: Side, name: str, span: Span, lacking: list[str], having: list[str]) -> MissingCoordinate:
    guard = {
        Side.QUERY: f"write `{having[0]} -> all where ...` for queries of `{having[0]}` only",
        Side.KEY: f"write `all -> {having[0]} where ...` for keys of `{having[0]}` only",
        Side.TOKEN: f"write `{having[0]}` before the name of the coordinate, or after `order`",
    }
    spaces = ", ".join(f"`{each}`" for each in lacking)
    return MissingCoordinate(span=span, name=name, spaces=spaces, side=side, hint=guard[side])


def _unknown(frame: Frame, name: str, span: Span, sides: Iterable[SideDeclared]) -> Bad:
    sides = list(sides)
    if not any(tokens.sequence.spaces for tokens in sides):
        return frame.add(NoPairHere(span=span, hint="this must be known before the tokens are"))
    scalar = frame.declared.input(name)
    if scalar is not None and not scalar.dimensions:
        return frame.add(NoTokens(span=span, name=name, kind=scalar.type))
    if scalar is not None:
        return frame.add(UnknownCoordinate(span=span, name=name, known=_how_to_read(scalar)))
    unread = [each.name for each in frame.declared.unread if each.is_coordinate]
    known = list(dict.fromkeys([*(each for tokens in sides for each in tokens.coordinate_names()), *unread]))
    nearest = frame.nearest(name, known)
    shown = "the coordinates are " + ", ".join(f"`{each}`" for each in known[:8])
    advice = f"declare it: `input {name}: int[tokens]` if calls give it, else `coord {name} = ...`"
    advice = advice if nearest is None and frame.declared.self_attention else ""
    return frame.add(UnknownCoordinate(span=span, name=name, known=shown, nearest=nearest, advice=advice))


def _how_to_read(declared: Input) -> str:
    """How an input is read that is no coordinate, for a label."""
    if declared.sparse:
        indices = ", ".join([*(each.text.removesuffix("s") for each in declared.dimensions[:-2]), "q", "k"])
        return f"it is a list of entries: write `{declared.name}[{indices}]`"
    kinds = declared.kinds
    if kinds.count(DimensionKind.TOKENS) == 1 and kinds[-1] in (DimensionKind.DIM, DimensionKind.FIXED):
        return "each token has a vector of it, which `dot` and `value` take"
    return f"it is an input of more dimensions: index it, `{declared.name}[...]`"


def unknown_space(frame: Frame, name: str, span: Span, known: Collection[str], *others: str) -> Bad:
    """Reports an unknown space. `others` are further words that may have been meant."""
    shown = "the spaces are " + ", ".join(f"`{each}`" for each in known) if known else "no space is declared"
    nearest = frame.nearest(name, known, others)
    return frame.add(UnknownSpace(span=span, name=name, known=shown, nearest=nearest))


def coordinate_range(tokens: SideDeclared, name: str, spaces: Iterable[Space]) -> Range:
    """The static range of a coordinate over the tokens of these spaces."""
    ranges = [_range_in(tokens, name, space) for space in spaces]
    result = ranges[0]
    for each in ranges[1:]:
        result = result.joined(each)
    return result


def _range_in(tokens: SideDeclared, name: str, space: Space) -> Range:
    if name == "i":
        offset = dict(zip(tokens.sequence.spaces, tokens.sequence.offsets, strict=True))[space]
        return Range(offset, offset + space.size - 1)
    if (name, space.name) in tokens.ranges:
        return tokens.ranges[name, space.name]
    axis = space.axis(name)
    return INT32 if axis is None else Range(0, axis.length - 1)


def length(frame: Frame, name: str, span: Span, sides: Sequence[Side], space: str | None = None) -> Term | Bad:
    """`len(name)` for the tokens that may be meant: tokens of `space`, if it is given."""
    lengths: dict[int, None] = {}
    for side in sides:
        tokens = frame.side(side)
        reachable = frame.spaces(side)
        for each in reachable or tokens.sequence.spaces:
            if space not in (None, each.name) or (lengths and not reachable):
                continue
            if name == "i":
                lengths[tokens.sequence.length] = None
            elif tokens.sequence.has(each, name):
                count = _length_in(frame, tokens, each, name, span)
                if count is None:
                    return BAD
                lengths[count] = None
    if not lengths:
        having = holders(frame, sides, name) if space is None else []
        if having:
            side = next(iter(sides))
            return frame.add(_missing(side, name, span, [each.name for each in frame.spaces(side)], having))
        return _unknown(frame, name, span, _candidates(frame, sides))
    if len(lengths) > 1:
        values = ", ".join(map(str, lengths))
        example = frame.side(next(iter(sides))).sequence.spaces[0].name
        return frame.add(AmbiguousLength(span=span, name=name, values=values, space=example))
    return constant(next(iter(lengths)), span)


def _length_in(frame: Frame, tokens: SideDeclared, space: Space, name: str, span: Span) -> int | None:
    """The length of an axis; for another coordinate, one more than its largest value."""
    axis = space.axis(name)
    if axis is not None:
        return axis.length
    definition = tokens.sequence.definition(name)
    assert definition is not None
    source = dict(definition.sources)[space.name]
    if isinstance(source, Along | Shuffled):
        return _range_in(tokens, name, space).high + 1
    if not trace(tokens.sequence, [Coordinate(Side.TOKEN, name)]).is_fixed:
        reason = "this depends on an input, a head or a batch entry"
        frame.add(NotConstant(span=span, what=f"the length of `{name}`", reason=reason))
        return None
    if tokens.sequence.length > _MOST_COUNTED:
        frame.add(TooLong(span=span, what="the sequence", count=tokens.sequence.length, limit=_MOST_COUNTED))
        return None
    values = Coordinates(draft(frame.declared), tokens.sequence, {}).values(name)
    offset = dict(zip(tokens.sequence.spaces, tokens.sequence.offsets, strict=True))[space]
    return int(np.max(values[offset : offset + space.size])) + 1


def draft(declared: Declared) -> MaskIR:
    """The declarations so far as a mask without relations, to evaluate its coordinates."""
    return MaskIR(
        name="",
        parameters=(),
        heads=declared.heads.count,
        queries=declared.queries.sequence,
        keys=declared.keys.sequence,
        self_attention=declared.self_attention,
        inputs=declared.inputs,
        attend=(),
        require=(),
        relation=Constant(False),
    )


def axis_name(frame: Frame, node: tree.Expression) -> str | Bad:
    """The coordinate that an axis argument names; BAD, with a report, if no token has it."""
    if not isinstance(node, tree.Name):
        return frame.add(NotAxis(span=node.span))
    value = frame.names.get(node.id)
    if isinstance(value, AxisValue):
        return value.name
    sides = _candidates(frame, frame.sides or (Side.QUERY, Side.KEY))
    if node.id in frame.declared.bad_names:
        return BAD
    if not any(tokens.sequence.has(space, node.id) for tokens in sides for space in tokens.sequence.spaces):
        return _unknown(frame, node.id, node.span, sides)
    return node.id


def common_axes(frame: Frame, span: Span, function: str, width: int | None = None) -> tuple[str, ...] | Bad:
    """The axes of the space that the tokens are in, which must be the same on both sides.

    If no token can be meant, the axes of any space, of one with `width` axes if there is one.
    """
    if not frame.sides:
        reason = "there is no space here"
        return frame.add(NoCommonAxes(span=span, reason=reason, function=function))
    spaces = {space.name: space for side in frame.sides for space in frame.spaces(side)}
    if not spaces:
        known = list(frame.declared.spaces())
        fitting = [space for space in known if len(space.axes) == width]
        spaces = {space.name: space for space in (fitting or known)[:1]}
    axes = {tuple(axis.name for axis in space.axes) for space in spaces.values()}
    if len(axes) > 1:
        names = ", ".join(f"`{name}`" for name in spaces)
        reason = f"the tokens here may be in {names}"
        return frame.add(NoCommonAxes(span=span, reason=reason, function=function))
    return axes.pop()


CURVES = {kind.value: kind for kind in CurveKind}


def read_hidden(frame: Frame, side: Side, source: Along | Shuffled, span: Span) -> Term | Bad:
    """A token's position along a curve or in a shuffle: a hidden coordinate, named by its text."""
    match source:
        case Along(kind=kind, axes=axes):
            name = f"{kind.value}({', '.join(axes)})"
        case Shuffled(of=of, seed=seed):
            name, axes = f"shuffle({of}, {seed})", (of,)
    for axis in axes:  # reports tokens that lack one
        if isinstance(read(frame, side, axis, span), Bad):
            return BAD
    frame.declared.hidden[name] = source
    ranges = [Range(0, _hidden_length(frame.side(side), source, space) - 1) for space in frame.spaces(side)]
    reach = Range(0, max((each.high for each in ranges), default=0))
    return Term(Coordinate(side, name, span=span), reach)


def _hidden_length(tokens: SideDeclared, source: Along | Shuffled, space: Space) -> int:
    match source:
        case Along(axes=axes):
            size = 1
            for name in axes:
                axis = space.axis(name)
                assert axis is not None
                size *= axis.length
            return size
        case Shuffled(of="i"):
            return tokens.sequence.length
        case Shuffled(of=of):
            axis = space.axis(of)
            assert axis is not None
            return axis.length

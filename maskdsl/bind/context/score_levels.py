"""The groups that a score of a route is for: those that it pools by, or of the coordinates that it reads."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.reading import coordinate_range, draft
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import PAIR, Coordinate, Expression, Leaf, Read, Side, children
from maskdsl.ir.facts.ranges import INT32
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Type
from maskdsl.ir.values.group_scores import Grouping
from maskdsl.ir.values.token_vectors import OfGroup, OfToken, Vector, vector_expressions, vector_leaves

ALONE = Grouping(None, 1)
"""All tokens of a side as one group."""
Level = tuple[Grouping, Grouping]


def level_of(score: Expression, span: Span, frame: Frame) -> Level | Bad:
    """The groups of queries and of keys that a score is for; BAD, with a report, if there are none."""
    direct = [each for each in _direct_leaves(score, frame) if isinstance(each, Coordinate)]
    sides = []
    for side in PAIR:
        pooled = list(_tables_groups(score, side, frame))
        names = dict.fromkeys(
            _group_name(each) for each in direct if isinstance(each, Coordinate) and each.side is side
        )
        sides.append(_finest(pooled, names, side, span, frame))
    queries, keys = sides
    return BAD if isinstance(queries, Bad) or isinstance(keys, Bad) else (queries, keys)


def having_groups(level: Level, frame: Frame) -> Frame:
    """The frame of pairs of tokens that have these groups."""
    queries, keys = (
        {each.name for each in frame.sequence(side).spaces if by is None or frame.sequence(side).has(each, by)}
        for side, by in zip(PAIR, (grouping.by for grouping in level), strict=True)
    )
    return frame.where(pair for pair in frame.pairs if pair[0] in queries and pair[1] in keys)


def vector_group(vector: Vector, side: Side, span: Span, frame: Frame) -> Grouping | Bad:
    """The groups of a side that a vector is for; those of all tokens together, if it does not depend on the side."""
    pooled = [
        Grouping(each.by, each.count, each.pool.span)
        for each in vector_leaves(vector)
        if isinstance(each, OfGroup) and each.side is side
    ]
    length = frame.sequence(side).length
    pooled += [
        Grouping("i", length) for each in vector_leaves(vector) if isinstance(each, OfToken) and each.side is side
    ]
    direct = (each for expression in vector_expressions(vector) for each in _direct_leaves(expression, frame))
    names = dict.fromkeys(_group_name(each) for each in direct if isinstance(each, Coordinate) and each.side is side)
    return _finest(pooled, names, side, span, frame)


def _group_name(coordinate: Coordinate) -> str:
    """The coordinate whose values make the groups of what reads this one."""
    return coordinate.name if coordinate.type is Type.INT else "i"


def _direct_leaves(score: Expression, frame: Frame) -> Iterator[Leaf]:
    """The leaves of a score but those that it reads products and tables of scores by."""
    pending = [score]
    for node in pending:
        if isinstance(node, Read) and (node.input in frame.declared.products or node.input in frame.declared.tables):
            continue
        pending += children(node)
        if isinstance(node, Leaf):
            yield node


def tables_read(score: Expression, frame: Frame) -> Iterator[str]:
    """The products and the tables of scores that a score reads itself."""
    pending = [score]
    for node in pending:
        if isinstance(node, Read) and (node.input in frame.declared.products or node.input in frame.declared.tables):
            yield node.input
        pending += children(node)


def _tables_groups(score: Expression, side: Side, frame: Frame) -> Iterator[Grouping]:
    declared = frame.declared
    for name in tables_read(score, frame):
        product, made = declared.products.get(name), declared.tables.get(name)
        grouping = product.grouping(side) if product is not None else None
        if made is not None:
            grouping = made.result[side is Side.KEY]
        if grouping is not None and grouping != ALONE:
            yield grouping


def _finest(pooled: Iterable[Grouping], names: Iterable[str], side: Side, span: Span, frame: Frame) -> Grouping | Bad:
    """The groups that decide all others: pooled ones, or those of a coordinate that is read."""
    groups = list(dict.fromkeys(pooled))
    if not groups:
        made = [grouping_by(name, side, span, frame) for name in sorted(names)]
        groups = [each for each in made if not isinstance(each, Bad)]
        if len(groups) < len(made):
            return BAD
    if not groups:
        return ALONE
    finest = [one for one in groups if all(decides(one, other, side, frame) for other in groups)]
    if finest:
        return finest[0]
    shown = " and ".join(f"`{each.by}`" for each in groups)
    return frame.add(route_errors.MixedGroups(span=span, names=shown, side=side.plural))


def decides(one: Grouping, other: Grouping, side: Side, frame: Frame) -> bool:
    """Whether tokens of one group are known to be of one other group too."""
    if one == other:
        return True
    if other.span > 1 or one.by is None or other.by is None:
        return other.by is None
    return one.by == other.by or one.by == "i" or _decides_value(one.by, other.by, side, frame)


def _decides_value(group: str, name: str, side: Side, frame: Frame) -> bool:
    """Whether tokens of equal `group` are known to have equal values of a coordinate."""
    known = (_known(frame.sequence(side), each, frame) is not None for each in (group, name))
    return all(known) and not differs(group, name, side, frame)


def differs(group: str, name: str, side: Side, frame: Frame) -> bool:
    """Whether tokens of one group have different values of a coordinate; False if only a call can tell."""
    groups, values = (_known(frame.sequence(side), each, frame) for each in (group, name))
    if groups is None or values is None:
        return False
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    return bool(np.any(values != values[first][member]))


def _known(sequence: Sequence, name: str, frame: Frame) -> NDArray[Any] | None:
    """The values of a coordinate; None if only a call can tell."""
    if not trace(sequence, [Coordinate(Side.TOKEN, name)]).is_fixed:
        return None
    return Coordinates(draft(frame.declared), sequence, {}).values(name)


def grouping_by(name: str, side: Side, span: Span, frame: Frame) -> Grouping | Bad:
    """The groups of tokens with an equal coordinate; BAD, with a report, if it numbers no groups."""
    tokens = frame.side(side)
    if name == "i":
        return Grouping("i", tokens.sequence.length)
    if name in frame.declared.hidden:
        words = side.plural
        return frame.add(route_errors.UnnamedGroup(span=span, expression=name, side=words, letter=words[0]))
    spaces = [space for space in tokens.sequence.spaces if tokens.sequence.has(space, name)]
    reach = coordinate_range(tokens, name, spaces)
    if reach.low < 0 and reach != INT32:  # values of inputs are checked in calls
        return frame.add(route_errors.NegativeGroup(span=span, name=name, low=reach.low))
    known = _known(tokens.sequence, name, frame)
    return Grouping(name, tokens.sequence.length if known is None else int(known.max()) + 1)

"""Binds the groups of `space groups = mean(tokens by cluster, 64)`: the coordinate by which tokens are pooled.

Spaces are bound before anything else, as sequences and lengths of inputs depend on them. So the statements that say
what the coordinate is are bound for the pooled tokens alone first; `check_sources` compares with what they are later.
"""

from collections.abc import Container, Iterator
from dataclasses import replace

import numpy as np

from maskdsl.base.errors.calls.pools import NoPoolCoordinate, PoolCount
from maskdsl.base.errors.language.limits import TooLong
from maskdsl.base.errors.language.spaces import BadLength
from maskdsl.base.errors.language.types import NotConstant
from maskdsl.base.limits import MOST_TOKENS
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, why_unknown
from maskdsl.bind.context.frame import Declared, Frame
from maskdsl.bind.context.reading import draft
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.statement.coord_statements import with_hidden
from maskdsl.ir.declared import sequences as ir
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Coordinate, Side
from maskdsl.ir.facts.trace import Trace, dependencies, trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.pooling import pool_number
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree

_MOST_EVALUATED = 2**26
"""The most tokens whose numbers are looked at when a pattern is bound."""


@dataclass(frozen=True)
class Alone:
    """What the statements of a pattern declare of the tokens of one space, bound without the others."""

    declaration: tree.PatternDeclaration
    frame: Frame
    """With a report of its own, which also has the errors of statements about other spaces."""


def declare_groups(
    statement: tree.PooledSpaceStatement,
    node: tree.Expression,
    source: ir.Space,
    frame: Frame,
    elaborate: Elaborate,
    alone: "Alone",
) -> tuple[ir.PoolGroups, int] | Bad:
    """The groups of a space, and how many they are."""
    name = _coordinate(node, source, frame, alone)
    if isinstance(name, Bad):
        return BAD
    sequence = alone.frame.declared.queries.sequence
    declared = with_hidden(alone.frame.declared, frozenset(dependencies(sequence, [name])))
    sequence = declared.queries.sequence
    needed = set(dependencies(sequence, [name]))
    sequence = replace(sequence, coordinates=tuple(each for each in sequence.coordinates if each.name in needed))
    needs, mask = trace(sequence, [Coordinate(Side.TOKEN, name)]), draft(declared)
    hint = _unfit(sequence, name, needs, mask, {each.name for each in declared.routed})
    if hint:
        return frame.add(NoPoolCoordinate(span=node.span, source=source.name, what=f"`{name}`", hint=hint))
    known = needs.is_fixed and source.size <= _MOST_EVALUATED
    most = int(np.max(Coordinates(mask, sequence, {}).values(name))) if known else None
    count = _count(statement, node, most, frame, elaborate)
    if isinstance(count, Bad):
        return BAD
    if most is not None and most >= count:
        space = ir.Space(statement.name.id, (ir.Axis(statement.name.id, count),), span=statement.span)
        return frame.add(pool_number(space, name, most))
    return ir.PoolGroups(name, sequence), count


def _coordinate(node: tree.Expression, source: ir.Space, frame: Frame, alone: "Alone") -> str | Bad:
    """The name of the coordinate; BAD, with a report, if tokens of the source alone have none of this name."""
    if not isinstance(node, tree.Name):
        hint = "declare a coordinate, `coord group = ...`, and write its name"
        return frame.add(NoPoolCoordinate(span=node.span, source=source.name, what="an expression", hint=hint))
    if alone.frame.declared.queries.sequence.has(source, node.id):
        return node.id
    inside = [each for each in alone.frame.report.errors.values() if _declares(each.span, alone.declaration, node.id)]
    for each in inside:
        frame.report.add(each)
    if inside:
        return BAD
    nearest = frame.nearest(node.id, alone.frame.declared.queries.coordinate_names())
    hint = f"declare it: `input {node.id}: int[{source.name}]` if calls give it, else `coord {node.id} = ...`"
    hint = hint if nearest is None else f"did you mean `{nearest}`?"
    routes = (each.name.id for each in alone.declaration.statements if isinstance(each, tree.RouteStatement))
    hint = "it is a route, which is found after pools are made" if node.id in routes else hint
    return frame.add(NoPoolCoordinate(span=node.span, source=source.name, what=f"`{node.id}`", hint=hint))


def _declares(span: Span | None, declaration: tree.PatternDeclaration, name: str) -> bool:
    """Whether a place is in the statement of a pattern that declares a coordinate."""
    kinds = tree.CoordinateStatement | tree.InputStatement
    return span is not None and any(
        each.name.id == name and each.span.start <= span.start and span.end <= each.span.end
        for each in declaration.statements
        if isinstance(each, kinds)
    )


def _unfit(sequence: ir.Sequence, name: str, needs: Trace, mask: MaskIR, routed: Container[str]) -> str | None:
    """Why tokens cannot be pooled by a coordinate that they have; None if they can."""
    definition = sequence.definition(name)
    if definition is not None and definition.type is not Type.INT:
        return f"it is a {definition.type}, and numbers of pools are integers"
    if any(each in routed for each in needs.inputs):
        return "it is a rank, which is found after pools are made"
    if DimensionKind.HEADS in needs.varies(mask):
        return "it differs between heads, and a pool is the same for all of them"
    return None


def _count(
    statement: tree.PooledSpaceStatement, node: tree.Expression, most: int | None, frame: Frame, elaborate: Elaborate
) -> int | Bad:
    """The number of pools: as written, or one more than the largest number of a token, which is None if unknown."""
    if statement.size is None:
        if most is None:
            reason, source = "it depends on what a call gives", statement.source.id
            pooling = statement.pooling.id
            return frame.add(
                PoolCount(span=node.span, name=node.span.text, reason=reason, pooling=pooling, source=source)
            )
        count, span = most + 1, node.span
    else:
        value, span = elaborate(statement.size, frame), statement.size.span
        if isinstance(value, Bad):
            return BAD
        if not isinstance(value, Term) or not isinstance(value.constant, int) or value.type is not Type.INT:
            return frame.add(NotConstant(span=span, what="the number of pools", reason=why_unknown(value)))
        count = value.constant
    if count < 1:
        return frame.add(BadLength(span=span, what="the number of pools", value=count))
    if count > MOST_TOKENS:
        return frame.add(TooLong(span=span, what="the space", count=count, limit=MOST_TOKENS))
    return count


def check_sources(frame: Frame) -> None:
    """Reports coordinates of pools that are others for the pooled tokens alone than for them in a sequence."""
    declared = frame.declared
    spaces = dict.fromkeys((*declared.queries.sequence.spaces, *declared.keys.sequence.spaces))
    for space, groups in dict.fromkeys(each for one in spaces for each in one.groupings):
        hint = next(_differences(groups, declared), None)
        if hint is not None:
            source, what = groups.tokens.spaces[0].name, f"`{groups.by}`"
            frame.add(NoPoolCoordinate(span=space.span, source=source, what=what, hint=hint))


def _differences(groups: ir.PoolGroups, declared: Declared) -> Iterator[str]:
    """Yields what makes the coordinate of groups another one in a sequence."""
    (source,), needs = groups.tokens.spaces, trace(groups.tokens, [Coordinate(Side.TOKEN, groups.by)])
    for given in declared.inputs:
        if given.name in needs.given:
            texts = [each.text for each in given.dimensions if each.kind is DimensionKind.TOKENS]
            of = {"keys": declared.keys}.get(texts[0], declared.queries).sequence
            if texts[0] != source.name and of.spaces != (source,):
                yield f"`{given.name}` is no input of these tokens alone: declare it with the dimension `{source.name}`"
    for sequence in (declared.queries.sequence, declared.keys.sequence):
        if source in sequence.spaces and sequence.spaces != (source,):
            offset = sequence.offsets[sequence.spaces.index(source)]
            read = (read for each in groups.tokens.coordinates for _, read in each.sources)
            shuffles = any(isinstance(each, ir.Shuffled) and each.of == "i" for each in read)
            others = (each for each in groups.tokens.coordinates if not _alike(each, sequence, source))
            if ("i" in needs.names and offset) or shuffles or any(others):
                yield f"it reads `i` or its length, which differ in a sequence: read the axes of `{source.name}`"


def _alike(alone: ir.CoordinateDefinition, sequence: ir.Sequence, space: ir.Space) -> bool:
    """Whether a coordinate has the same source in a sequence; one that the sequence lacks was not declared for it."""
    real = sequence.definition(alone.name)
    sources = dict(real.sources) if real is not None else {}
    return space.name not in sources or sources[space.name] == dict(alone.sources)[space.name]

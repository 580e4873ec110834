"""Resolves bare names: coordinates in `coord` and `order`, reserved words, parameters, `let`s, routes and macros."""

from dataclasses import replace
from math import inf

from maskdsl.base.errors.language.names import (
    HeadDimHere,
    NoScoreHere,
    OutsideQuantifier,
    SpaceAsValue,
    UnknownName,
)
from maskdsl.base.errors.language.types import NotConstant
from maskdsl.base.habits import NAMES
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Abbreviation, Bad, Term, Value, constant
from maskdsl.bind.context.frame import PAIRS, Frame, StatementKind
from maskdsl.bind.context.reading import holders, read
from maskdsl.bind.context.sides import head_number, side_of
from maskdsl.bind.context.terms import make
from maskdsl.bind.expression.functions import FUNCTIONS
from maskdsl.bind.expression.head_numbers import key_head, key_heads
from maskdsl.bind.expression.macros import Elaborate, expand
from maskdsl.bind.expression.routed_names import route_relation
from maskdsl.ir.declared.inputs import HEAD_DIM, HEAD_DIMS
from maskdsl.ir.expressions import Batch, Read, Score, Side
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree

RESERVED = frozenset({"q", "k", "head", "heads", "key_head", "key_heads", "dim", "batch", "all"})
OF_BINDING = frozenset({"self", "order", "backend", "follow", "refine", "tune", "layout", "first_head", "local_heads"})
"""Names that parameters of patterns cannot have: arguments of the Python functions that take parameters by name."""
OF_CALLS = frozenset(
    {"self", "v", "layout", "return_lse", "return_routes", "block", "token", "layers", "gpu", "head_dim", "device"}
) | {
    *("query_start", "key_lengths", "page_table", "page_size", "routing_state", "debug", "lengths"),
    *("dropout_p", "seed", "most", "out", "key_scale", "value_scale"),
    *("per_node", "dtype", "link", "scheme"),
    *("cu_seqlens_q", "cu_seqlens_k"),
}
"""Names that inputs cannot have: arguments of the Python functions that take inputs by name."""


def resolve_name(node: tree.Name, frame: Frame, elaborate: Elaborate) -> Value:
    """The value of a bare name in this frame."""
    name, span = node.id, node.span
    match name:
        case "q" | "k":
            side = side_of(name, span, frame)
            return BAD if isinstance(side, Bad) else read(frame, side, "i", span)
        case "heads":
            return constant(frame.declared.heads.whole, span)
        case "dim":
            return _head_dim(frame, span)
        case "key_heads":
            return constant(key_heads(frame), span)
        case "head" | "key_head" | "batch":
            if frame.statement is StatementKind.CONSTANT:
                reason = f"this depends on the {'batch' if name == 'batch' else 'head'}"
                return frame.add(NotConstant(span=span, what="this", reason=reason))
            if name == "batch":
                return Term(Batch(span=span), Range(0, 2**31 - 1))
            return head_number(frame.declared.heads, span) if name == "head" else key_head(frame, span)
        case "all":
            return frame.add(OutsideQuantifier(span=span, what="`all`"))
        case "s" if frame.statement is StatementKind.SCORE:
            return Term(Score(span=span))
    if frame.bare_coordinates and holders(frame, (Side.TOKEN,), name):
        return read(frame, Side.TOKEN, name, span)
    if name in frame.names:
        value = frame.names[name]
        if isinstance(value, Abbreviation):
            return elaborate(value.statement.value, replace(frame, names=value.names, bare_coordinates=False))
        if isinstance(value, Term) and value.constant is not None:  # errors about it point to this use
            return replace(value, expression=replace(value.expression, span=span))
        return value
    scalar = frame.declared.input(name)
    if scalar is not None and not scalar.dimensions:
        return make(frame, span, Read(name, (), scalar.type, span=span), ())
    if name == "inf":
        return constant(inf, span)
    if name in frame.declared.routes and frame.statement in (StatementKind.PAIR, StatementKind.VALUE):
        return route_relation(name, span, frame)
    macro = frame.declared.program.macros(span.source).get(name)
    if macro is not None and name not in FUNCTIONS:
        return expand(tree.Call(node, (), span=span), macro, frame, elaborate)
    return _unknown(name, span, frame)


def _head_dim(frame: Frame, span: Span) -> Value:
    """The head dimension, which a call knows: nothing that decides tiles or selections before it can read it."""
    if frame.statement not in (StatementKind.VALUE, StatementKind.SCORE, StatementKind.ROUTE):
        return frame.add(HeadDimHere(span=span))
    return Term(Read(HEAD_DIM, (), Type.INT, span=span), Range(*HEAD_DIMS))


def _habit(name: str, frame: Frame) -> str | None:
    """What a name of other libraries is called here, if it can be read here."""
    meant = NAMES.get(name)
    fits = {
        "q": frame.statement in PAIRS,
        "k": frame.statement in PAIRS,
        "s": frame.statement is StatementKind.SCORE,
        "heads": True,
    }
    return meant if fits.get(meant or "", frame.statement is not StatementKind.CONSTANT) else None


def _unknown(name: str, span: Span, frame: Frame) -> Value:
    declared = frame.declared
    if name in declared.bad_names:
        return BAD
    if any(space.name == name for space in declared.spaces()):
        return frame.add(SpaceAsValue(span=span, name=name))
    if name == "s":
        hint = "no other line reads the score of a pair"
        return frame.add(NoScoreHere(span=span, hint=hint))
    coordinates = [each for side in (declared.queries, declared.keys) for each in side.coordinate_names()]
    if name in FUNCTIONS:
        hint = f"this is a function: call it, `{name}(...)`"
    elif name in coordinates and frame.statement in PAIRS:
        hint = f"this is a coordinate: write `q.{name}` or `k.{name}`"
    elif name in declared.routes:
        hint = "this is a route: only `attend`, `require` and candidates of routes can read it"
    elif name == "v":
        hint = "only `value` lines read the value of a key"
    elif declared.input(name) is not None:
        hint = f"this is an input: index it, `{name}[...]`"
    else:
        hint = "not a parameter, `let` or macro"
    macros, bare = declared.program.macros(span.source), coordinates if frame.bare_coordinates else ()
    known = (frame.names, macros, declared.routes, sorted(declared.bad_names), bare)
    nearest = _habit(name, frame) or frame.nearest(name, *known)
    nearest = None if nearest == name else nearest
    return frame.add(UnknownName(span=span, name=name, hint=hint, nearest=nearest))

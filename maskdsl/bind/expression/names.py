"""What a bare name means: a coordinate in `coord` and `order`, a reserved word, a parameter, a `let` or a macro."""

from dataclasses import replace

from maskdsl.base.errors.language.names import NoPairHere, NoScoreHere, OutsideQuantifier, SpaceAsValue, UnknownName
from maskdsl.base.errors.language.types import NotConstant
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Abbreviation, Bad, Term, Value, constant
from maskdsl.bind.context.frame import PAIRS, Frame, StatementKind
from maskdsl.bind.context.reading import holders, read
from maskdsl.bind.expression.functions import FUNCTIONS
from maskdsl.bind.expression.macros import Elaborate, expand
from maskdsl.bind.expression.routed_names import route_relation
from maskdsl.ir.expressions import Batch, Constant, Expression, Head, Score, Side, apply
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.heads import Heads
from maskdsl.ir.ops import Op
from maskdsl.syntax import tree

RESERVED = frozenset({"q", "k", "head", "heads", "batch", "all"})
OF_BINDING = frozenset(
    {"self", "order", "backend", "follow", "refine", "tune", "key_heads", "first_head", "local_heads"}
)
"""What parameters of patterns cannot be called: Python gives them by name, beside these."""
OF_CALLS = frozenset({"self", "v", "layout", "return_lse", "block", "token", "layers", "gpu", "head_dim", "device"}) | {
    *("query_start", "key_lengths", "page_table", "page_size", "routing_state", "debug", "lengths"),
    *("cu_seqlens_q", "cu_seqlens_k"),
}
"""What inputs cannot be called, for the same reason."""


def resolve_name(node: tree.Name, frame: Frame, elaborate: Elaborate) -> Value:
    """The value of a bare name where it stands."""
    name, span = node.id, node.span
    match name:
        case "q" | "k":
            side = side_of(name, span, frame)
            return BAD if isinstance(side, Bad) else read(frame, side, "i", span)
        case "heads":
            return constant(frame.world.heads.whole, span)
        case "head" | "batch":
            if frame.statement is StatementKind.CONSTANT:
                return frame.add(NotConstant(span=span, what="this", reason=f"this depends on the {name}"))
            if name == "head":
                return _head(frame.world.heads, span)
            return Term(Batch(span=span), Range(0, 2**31 - 1))
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
        if isinstance(value, Term) and value.constant is not None:  # what is wrong with it is wrong here
            return replace(value, expression=replace(value.expression, span=span))
        return value
    if name in frame.world.routes and frame.statement is StatementKind.PAIR:
        return route_relation(name, span, frame)
    macro = frame.world.program.macros(span.source).get(name)
    if macro is not None and name not in FUNCTIONS:
        return expand(tree.Call(node, (), span=span), macro, frame, elaborate)
    return _unknown(name, span, frame)


def _head(heads: Heads, span: Span) -> Term:
    """The number of the head in the whole attention."""
    here: Expression = Head(span=span)
    if heads.first:
        here = apply(Op.ADD, here, Constant(heads.first, span=span), span=span)
    return Term(here, Range(heads.first, heads.first + heads.count - 1))


def side_of(name: str, span: Span, frame: Frame) -> Side | Bad:
    """The side of `q` or `k`, where there is a pair."""
    match frame.statement:
        case StatementKind.PAIR | StatementKind.SCORE | StatementKind.ROUTE:
            return Side.QUERY if name == "q" else Side.KEY
        case StatementKind.TOKEN:
            hint = "here one token is meant, and its coordinates are bare names"
        case StatementKind.CONSTANT:
            hint = "this must be known before there are tokens"
        case StatementKind.HEAD:
            hint = "this may depend on the head, not on tokens"
    return frame.add(NoPairHere(span=span, hint=hint))


def _unknown(name: str, span: Span, frame: Frame) -> Value:
    world = frame.world
    if name in world.bad_names:
        return BAD
    if any(space.name == name for space in world.spaces()):
        return frame.add(SpaceAsValue(span=span, name=name))
    if name == "s":
        hint = "relations and weights do not know the score"
        return frame.add(NoScoreHere(span=span, hint=hint))
    coordinates = [each for side in (world.queries, world.keys) for each in side.coordinate_names()]
    if name in FUNCTIONS:
        hint = f"a function, which is called: `{name}(...)`"
    elif name in coordinates and frame.statement in PAIRS:
        hint = f"a coordinate, which is read from the query or the key: `q.{name}`, `k.{name}`"
    elif name in world.routes:
        hint = "a route, which `attend`, `require` and candidates of routes read"
    elif world.input(name) is not None:
        hint = f"an input, which is indexed: `{name}[...]`"
    else:
        hint = "no parameter, `let` or macro"
    macros, bare = world.program.macros(span.source), coordinates if frame.bare_coordinates else ()
    nearest = frame.nearest(name, frame.names, macros, world.routes, sorted(world.bad_names), bare)
    nearest = None if nearest == name else nearest
    return frame.add(UnknownName(span=span, name=name, hint=hint, nearest=nearest))

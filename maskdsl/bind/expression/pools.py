"""Elaborates pools of vectors: which tokens are pooled, by which coordinate, and over which heads."""

from dataclasses import replace

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.types import NotConstant, TypeMismatch
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, describe
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.context.reading import axis_name
from maskdsl.bind.context.score_levels import grouping_by
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.ir.expressions import Constant, Side, apply, of_side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.values.token_vectors import OfGroup, OfToken, Pool, PoolKind, Vector
from maskdsl.syntax import tree

KINDS = {kind.value: kind for kind in PoolKind}
_OPTIONS = ("heads", "span")


def pooled(call: tree.Call, vector: Vector, side: Side, frame: Frame, elaborate: Elaborate) -> OfGroup | Bad:
    """The pool `mean(vector where condition by c, heads = ..., span = ...)`, its vector elaborated already."""
    whose, *options = call.arguments
    wrong = next((each for each in options if each.name is None or each.name.id not in _OPTIONS), None)
    if wrong is not None or whose.by is None:
        span = call.span if wrong is None else wrong.span
        return frame.add(route_errors.WrongPool(span=span, forms="`heads = ...` or `span = ...`"))
    token = replace(frame, statement=StatementKind.TOKEN, token_side=side, bare_coordinates=True)
    pool = Pool(KINDS[call.function.id], of=None if vector == OfToken(side) else vector)
    if isinstance(whose.value, tree.Where):
        value = elaborate(whose.value.condition, token)
        if not isinstance(value, Term) or value.type is not Type.BOOL:
            return _mistaken(value, whose.value.condition, "a condition", frame)
        pool = replace(pool, among=of_side(value.expression, side))
    by = axis_name(token, whose.by)
    if isinstance(by, Bad):
        return BAD
    for each in options:
        assert each.name is not None
        changed = (_of_heads if each.name.id == "heads" else _spanning)(pool, each.value, frame, elaborate)
        if isinstance(changed, Bad):
            return BAD
        pool = changed
    if frame.statement is StatementKind.SCORE:
        for count in frame.sequence(side).counted:  # pools without tokens are in no group
            some = apply(Op.LESS, Constant(0), of_side(count, side))
            pool = replace(pool, among=some if pool.among is None else apply(Op.AND, pool.among, some))
        return OfGroup(side, pool, by, frame.sequence(side).length)
    groups = grouping_by(by, side, whose.by.span, frame)
    return BAD if isinstance(groups, Bad) else OfGroup(side, pool, by, groups.count)


def _of_heads(pool: Pool, node: tree.Expression, frame: Frame, elaborate: Elaborate) -> Pool | Bad:
    if isinstance(node, tree.Name) and node.id == "key_head":
        return replace(pool, by_key_head=True)
    if isinstance(node, tree.Name) and node.id == "all":
        return replace(pool, heads=Constant(0))
    value = elaborate(node, replace(frame, statement=StatementKind.HEAD))
    if not isinstance(value, Term) or value.type is not Type.INT:
        return _mistaken(value, node, "an integer computed from `head`, `key_head` or `all`", frame)
    if reads(value.expression).inputs:
        what, reason = "which heads are pooled together", "this depends on an input"
        return frame.add(NotConstant(span=node.span, what=what, reason=reason))
    return replace(pool, heads=value.expression)


def _spanning(pool: Pool, node: tree.Expression, frame: Frame, elaborate: Elaborate) -> Pool | Bad:
    value = elaborate(node, replace(frame, statement=StatementKind.CONSTANT))
    if isinstance(value, Term) and value.type is Type.INT and isinstance(value.constant, int) and value.constant >= 1:
        return replace(pool, span=value.constant)
    return _mistaken(value, node, "a number of groups, at least 1,", frame)


def _mistaken(value: Value, node: tree.Expression, expected: str, frame: Frame) -> Bad:
    if isinstance(value, Bad):
        return value
    return frame.add(TypeMismatch(span=node.span, what="this", found=describe(value), expected=expected))

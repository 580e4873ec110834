"""Elaborates `dot(Q, K)` in the score of a route: which vectors are pooled on either side, and by which coordinate."""

from dataclasses import replace

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.syntax import OldForm
from maskdsl.base.errors.language.types import NotConstant, TypeMismatch
from maskdsl.base.records import dataclass
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, describe
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.context.reading import axis_name
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.ir.expressions import PAIR, Constant, Coordinate, Expression, Read, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Pool, PoolKind, Product
from maskdsl.syntax import tree
from maskdsl.syntax.format_expression import format_expression
from maskdsl.syntax.upgrade import as_gathered

KINDS = {kind.value: kind for kind in PoolKind}
_BASES = {side.letter: side for side in PAIR}
_FORMS = "`{0}`, or `mean({0} by c)`, `max`, `sum` or `root`, with a coordinate `c`,"


@dataclass(frozen=True)
class _Pooled:
    """The pool of one side, and the coordinate whose equal values make its groups."""

    pool: Pool
    by: str


def dot(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    """The product as a read of a table, indexed by the numbers of the query's and the key's group."""
    if frame.statement is not StatementKind.ROUTE:
        return frame.add(route_errors.OutsideRoute(span=call.span))
    sides = tuple(_BASES)
    plain = [argument.value for argument in call.arguments if argument.name is None]
    if len(plain) != len(call.arguments) or len(plain) != len(sides):
        return frame.add(route_errors.WrongPool(span=call.span, forms="`dot(Q, K)`"))
    query, key = (pooled_by(node, base, frame, elaborate) for node, base in zip(plain, sides, strict=True))
    if isinstance(query, Bad) or isinstance(key, Bad):
        return BAD
    products = frame.declared.products
    equal = (each.name for each in products.values() if (each.query, each.key) == (query.pool, key.pool))
    name = next(equal, f"product {len(products)}")  # no name that an input could have
    products[name] = Product(name, query.pool, key.pool)
    groups = Coordinate(Side.QUERY, query.by), Coordinate(Side.KEY, key.by)
    return Term(Read(name, groups, Type.FLOAT, span=call.span), size=3, depth=2)


def pooled_by(node: tree.Expression, base: str, frame: Frame, elaborate: Elaborate) -> _Pooled | Bad:
    match node:
        case tree.Name(id=name) if name == base:
            return _Pooled(Pool(None), "i")
        case tree.Call(function=tree.Name(id=function), arguments=(whose, *heads)) if function in KINDS:
            if whose.by is not None and [each.name and each.name.id for each in heads] in ([], ["heads"]):
                nodes = whose.value, whose.by, *(each.value for each in heads)
                return _pool(KINDS[function], base, nodes, frame, elaborate)
            gathered = as_gathered(node)
            if gathered is not None:
                return frame.add(OldForm(span=node.span, text=format_expression(gathered)))
    return frame.add(route_errors.WrongPool(span=node.span, forms=_FORMS.format(base)))


def _pool(
    kind: PoolKind, base: str, arguments: tuple[tree.Expression, ...], frame: Frame, elaborate: Elaborate
) -> _Pooled | Bad:
    whose, by, *heads = arguments
    token = replace(frame, statement=StatementKind.TOKEN, token_side=_BASES[base], bare_coordinates=True)
    among: Expression | None = None
    match whose:
        case tree.Name(id=name) if name == base:
            pass
        case tree.Where(relation=tree.Name(id=name), condition=condition) if name == base:
            value = elaborate(condition, token)
            if not isinstance(value, Term) or value.type is not Type.BOOL:
                return _mistaken(value, condition, "a condition", frame)
            among = value.expression
        case _:
            return frame.add(route_errors.WrongPool(span=whose.span, forms=f"`{base}`, or `{base} where ...`"))
    group = axis_name(token, by)
    if isinstance(group, Bad):
        return BAD
    pool = Pool(kind, among)
    for node in heads:
        if isinstance(node, tree.Name) and node.id == "key_head":
            return _Pooled(replace(pool, by_key_head=True), group)
        if isinstance(node, tree.Name) and node.id == "all":
            return _Pooled(replace(pool, heads=Constant(0)), group)
        value = elaborate(node, replace(frame, statement=StatementKind.HEAD))
        if not isinstance(value, Term) or value.type is not Type.INT:
            return _mistaken(value, node, "an integer computed from `head`, `key_head` or `all`", frame)
        if reads(value.expression).inputs:
            what, reason = "which heads are pooled together", "this depends on an input"
            return frame.add(NotConstant(span=node.span, what=what, reason=reason))
        pool = replace(pool, heads=value.expression)
    return _Pooled(pool, group)


def _mistaken(value: Value, node: tree.Expression, expected: str, frame: Frame) -> Bad:
    if isinstance(value, Bad):
        return value
    return frame.add(TypeMismatch(span=node.span, what="this", found=describe(value), expected=expected))

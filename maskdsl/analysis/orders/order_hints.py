"""Hints of good orders from a relation: sort keys over one token that its conditions suggest.

- *groups*: for `f(q) == f(k)`, as in blocks, residues and documents, tokens sorted by f attend in blocks;
- *firsts*: a condition on one side, such as `k.t == 0`, often marks a few global tokens, which are sorted first;
- *coordinates* that are read beside axes: for a window along a curve, tokens sorted along it.
"""

from collections.abc import Iterable, Iterator

from maskdsl.analysis.orders.layouts import token
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Sequence, Space
from maskdsl.ir.expressions import (
    FALSE,
    PAIR,
    TRUE,
    Apply,
    Constant,
    Coordinate,
    Expression,
    Side,
    apply,
    of_side,
    walk,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.trace import pair_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import COMPARISONS, Op, Type
from maskdsl.ir.simplify import head_classes, simplify

_MOST = 4
"""The most hints of each kind."""
_MOST_CLASSES = 8
"""The most head classes whose relations are used."""


@dataclass(frozen=True)
class OrderHints:
    """Integer expressions over one token of one space, of each kind in the order of the relation."""

    groups: tuple[Expression, ...]
    firsts: tuple[Expression, ...]
    coordinates: tuple[Expression, ...]

    @property
    def residues(self) -> dict[str, int]:
        """The step of each axis that a group takes modulo a constant."""
        steps = {}
        for each in self.groups:
            match each:
                case Apply(Op.FLOOR_MODULO, (Coordinate(name=name), Constant(value=int(step)))):
                    steps[name] = step
        return steps


def find_hints(mask: MaskIR, space: Space) -> OrderHints:
    """The hints of all heads' relations for the tokens of a space."""
    relations = head_classes(mask.relation, mask.heads)[0][:_MOST_CLASSES]
    sequences = [each for each in mask.sequences.values() if space in each.spaces]

    def usable(key: Expression) -> bool:
        return all(_is_defined(sequence, space, key) for sequence in sequences)

    def chosen(keys: Iterable[Expression]) -> tuple[Expression, ...]:
        return tuple(key for key in dict.fromkeys(keys) if usable(key))[:_MOST]

    axes = {axis.name for axis in space.axes} | {"i"}
    read = reads(*relations).coordinates
    coordinates = [token(each.name) for each in read if each.type is Type.INT and each.name not in axes]
    firsts = [_first(condition) for each in relations for condition in _one_sided(each)]
    groups = [key for each in relations for key in _equal_keys(each)]
    return OrderHints(chosen(groups), chosen(firsts), chosen(coordinates))


def _is_defined(sequence: Sequence, space: Space, key: Expression) -> bool:
    """Whether the tokens of a space have all coordinates that a key reads."""
    return all(sequence.has(space, each.name) for each in reads(key).coordinates)


def _equal_keys(relation: Expression) -> Iterator[Expression]:
    """Yields f for every condition `f(q) == f(k)`."""
    for keys in filter(None, map(agreement, walk(relation))):
        if keys[0] == keys[1]:
            yield keys[0]


def agreement(condition: Expression) -> tuple[Expression, Expression] | None:
    """Integers f and g over one token, if the condition is `f(q) == g(k)` or says so of differences; else None.

    `(a - b) % m == 0` is `a % m == b % m`. The f of a truth value is 0 where it holds and else 1.
    """
    match condition:
        case Apply(Op.EQUAL, (Apply(Op.FLOOR_MODULO, (Apply(Op.SUBTRACT, (a, b)), Constant() as m)), Constant(0))):
            a, b = (apply(Op.FLOOR_MODULO, each, m) for each in (a, b))
        case Apply(Op.EQUAL, (Apply(Op.SUBTRACT, (a, b)), Constant(0))) | Apply(Op.EQUAL, (a, b)):
            pass
        case _:
            return None
    sides = {each.side: of_token for x in (a, b) if (of_token := _over_token(x)) for each in reads(x).coordinates[:1]}
    if len(sides) < 2 or a.type is Type.FLOAT:
        return None
    f, g = (_first(of_token) if a.type is Type.BOOL else of_token for of_token in map(sides.__getitem__, PAIR))
    return f, g


def _one_sided(relation: Expression) -> Iterator[Expression]:
    """Yields the comparisons that read one side only, as conditions over one token."""
    for node in walk(relation):
        if isinstance(node, Apply) and node.op in COMPARISONS:
            condition = _over_token(node)
            if condition is not None:
                yield condition


def _first(condition: Expression) -> Expression:
    """The sort key that puts the tokens first for which a condition holds."""
    return apply(Op.SELECT, condition, Constant(0), Constant(1))


def _over_token(expression: Expression) -> Expression | None:
    """The expression over one token; None unless it reads coordinates of one side only."""
    read = reads(expression)
    if read.inputs or read.leaves != read.coordinates or len({each.side for each in read.coordinates}) != 1:
        return None
    return of_side(expression, Side.TOKEN)


# Relations without inputs


def without_inputs(mask: MaskIR) -> Expression:
    """A relation without inputs that the mask's relation implies: conditions that read inputs are left out."""

    def widened(expression: Expression, positive: bool) -> Expression:
        match expression:
            case Apply(Op.AND | Op.OR as op, operands):
                return apply(op, *(widened(each, positive) for each in operands))
            case Apply(Op.NOT, (inner,)):
                return apply(Op.NOT, widened(inner, not positive))
            case _ if reads_inputs(mask, expression):
                return TRUE if positive else FALSE
            case _:
                return expression

    return simplify(widened(mask.relation, True))


def reads_inputs(mask: MaskIR, expression: Expression) -> bool:
    """Whether an expression depends on inputs, directly or through coordinates."""
    return bool(pair_trace(mask, [expression]).inputs)

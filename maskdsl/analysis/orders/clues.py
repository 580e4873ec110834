"""What a relation tells about good orders: the parts of it that ask something of one token alone.

- *groups*: where `f(q) == f(k)` is asked, as of blocks, residues and documents, tokens sorted by f attend in blocks;
- *firsts*: what is asked of one side only, `k.t == 0`, holds for a few tokens that all others share: they come first;
- *coordinates* that are read besides axes: a window along a curve wants tokens along it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from maskdsl.analysis.orders.layouts import token
from maskdsl.ir.expressions import (
    FALSE,
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
from maskdsl.ir.mask import MaskIR, Sequence, Space
from maskdsl.ir.ops import COMPARISONS, Op, Type
from maskdsl.ir.simplify import head_classes, simplify

_MOST = 4
"""Clues of each kind."""
_MOST_CLASSES = 8
"""Different relations of heads that are looked at."""


@dataclass(frozen=True, slots=True)
class Clues:
    """Integer expressions over one token of one space, each kind in the order in which the relation says them."""

    groups: tuple[Expression, ...]
    firsts: tuple[Expression, ...]
    coordinates: tuple[Expression, ...]

    @property
    def residues(self) -> dict[str, int]:
        """Of groups that are an axis modulo a number."""
        found = {}
        for each in self.groups:
            match each:
                case Apply(Op.FLOOR_MODULO, (Coordinate(name=name), Constant(value=int(step)))):
                    found[name] = step
        return found


def find_clues(mask: MaskIR, space: Space) -> Clues:
    """What the relations of all heads ask of the tokens of a space."""
    relations = head_classes(mask.relation, mask.heads)[0][:_MOST_CLASSES]
    sequences = [each for each in mask.sequences.values() if space in each.spaces]

    def usable(key: Expression) -> bool:
        return all(_is_defined(sequence, space, key) for sequence in sequences)

    def chosen(found: Iterable[Expression]) -> tuple[Expression, ...]:
        return tuple(key for key in dict.fromkeys(found) if usable(key))[:_MOST]

    axes = {axis.name for axis in space.axes} | {"i"}
    read = reads(*relations).coordinates
    coordinates = [token(each.name) for each in read if each.type is Type.INT and each.name not in axes]
    firsts = [_first(condition) for each in relations for condition in _one_sided(each)]
    groups = [key for each in relations for key in _equal_keys(each)]
    return Clues(chosen(groups), chosen(firsts), chosen(coordinates))


def _is_defined(sequence: Sequence, space: Space, key: Expression) -> bool:
    """Whether the tokens of a space have all that a key reads."""
    return all(sequence.has(space, each.name) for each in reads(key).coordinates)


def _equal_keys(relation: Expression) -> Iterator[Expression]:
    """f wherever `f(q) == f(k)` is asked, in whichever of its two spellings."""
    for node in walk(relation):
        match node:
            case Apply(Op.EQUAL, (Apply(Op.FLOOR_MODULO, (Apply(Op.SUBTRACT, (a, b)), Constant() as m)), Constant(0))):
                sides = _over_token(a), _over_token(b)
                if sides[0] is not None and sides[0] == sides[1]:
                    yield apply(Op.FLOOR_MODULO, sides[0], m)
            case Apply(Op.EQUAL, (a, b)) if a.type is not Type.FLOAT:
                sides = _over_token(a), _over_token(b)
                if sides[0] is not None and sides[0] == sides[1]:
                    yield _first(sides[0]) if sides[0].type is Type.BOOL else sides[0]


def _one_sided(relation: Expression) -> Iterator[Expression]:
    """Comparisons over one side alone, as conditions over one token."""
    for node in walk(relation):
        if isinstance(node, Apply) and node.op in COMPARISONS:
            condition = _over_token(node)
            if condition is not None:
                yield condition


def _first(condition: Expression) -> Expression:
    """The key that puts tokens first for which a condition holds."""
    return apply(Op.SELECT, condition, Constant(0), Constant(1))


def _over_token(expression: Expression) -> Expression | None:
    """The same over one token; None if it reads both sides, or what is not a token's own."""
    read = reads(expression)
    if read.inputs or read.leaves != read.coordinates or len({each.side for each in read.coordinates}) != 1:
        return None
    return of_side(expression, Side.TOKEN)


# What is known without inputs


def without_inputs(mask: MaskIR) -> Expression:
    """A relation that holds wherever the mask's may hold for some inputs: conditions that read inputs are left out."""

    def widened(expression: Expression, positive: bool) -> Expression:
        match expression:
            case Apply(Op.AND | Op.OR as op, parts):
                return apply(op, *(widened(part, positive) for part in parts))
            case Apply(Op.NOT, (part,)):
                return apply(Op.NOT, widened(part, not positive))
            case _ if reads_inputs(mask, expression):
                return TRUE if positive else FALSE
            case _:
                return expression

    return simplify(widened(mask.relation, True))


def reads_inputs(mask: MaskIR, expression: Expression) -> bool:
    """Directly, or through coordinates."""
    return bool(pair_trace(mask, [expression]).inputs)

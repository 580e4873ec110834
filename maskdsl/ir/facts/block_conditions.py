"""What of a relation is the same for all keys of an aligned block: what routes select of groups of keys, above all.

Decoding evaluates it once a block, before it loads keys.
"""

from collections.abc import Iterator
from typing import NamedTuple

from maskdsl.ir.declared.sequences import Computed
from maskdsl.ir.expressions import (
    Apply,
    Constant,
    Coordinate,
    Expression,
    InSpace,
    Read,
    Score,
    Side,
    apply,
    children,
    of_side,
    walk,
    with_children,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type

CONDITION = Coordinate(Side.QUERY, "its block", Type.BOOL)
"""Stands for the condition; no pattern can give such a name."""


class BlockCondition(NamedTuple):
    """A relation in two: `condition`, and `rest`, in which `CONDITION` stands for it."""

    condition: Expression
    """It reads tables, and is the same for all keys of a block."""
    rest: Expression

    @property
    def is_monotone(self) -> bool:
        """Whether the relation holds for no fewer pairs where the condition does."""
        return _only_adds(self.rest)


def block_condition(mask: MaskIR, size: int) -> BlockCondition | None:
    """The condition of blocks of `size` keys in the mask's relation; None if there is none, or more than one."""
    conditions: dict[Expression, None] = {}
    rest = _without(mask, size, mask.relation, conditions)
    return BlockCondition(next(iter(conditions)), rest) if len(conditions) == 1 else None


def _without(mask: MaskIR, size: int, node: Expression, conditions: dict[Expression, None]) -> Expression:
    """A boolean with its conditions of blocks replaced; adds them to `conditions`."""
    if node.type is not Type.BOOL:
        return node
    if _is_condition(mask, size, node):
        conditions[node] = None
        return CONDITION
    if not isinstance(node, Apply):
        return node
    if node.op not in (Op.AND, Op.OR):
        return with_children(node, tuple(_without(mask, size, each, conditions) for each in children(node)))
    operands = [*_operands(node.op, node)]
    whole = [each for each in operands if _is_of_block(mask, size, each)]
    others = [_without(mask, size, each, conditions) for each in operands if each not in whole]
    if not any(_is_condition(mask, size, each) for each in whole):
        return apply(node.op, *whole, *others)
    condition = apply(node.op, *whole) if len(whole) > 1 else whole[0]
    conditions[condition] = None
    return apply(node.op, CONDITION, *others)


def _operands(op: Op, node: Expression) -> Iterator[Expression]:
    """Those of a chain of one operator."""
    if isinstance(node, Apply) and node.op is op:
        for each in node.arguments:
            yield from _operands(op, each)
    else:
        yield node


def _is_condition(mask: MaskIR, size: int, node: Expression) -> bool:
    return any(isinstance(each, Read) for each in walk(node)) and _is_of_block(mask, size, node)


def _is_of_block(mask: MaskIR, size: int, node: Expression) -> bool:
    """Whether it has the same value for all keys of a block, which begins at a multiple of `size`."""
    match node:
        case Apply(op=Op.FLOOR_DIVIDE, arguments=(dividend, Constant(value=int(divisor)))) if (
            divisor > 0 and divisor % size == 0 and _is_position(mask, dividend)
        ):
            return True
        case Coordinate(side=Side.KEY):
            value = _value(mask, node)
            return value is not None and _is_of_block(mask, size, value)
        case InSpace(side=Side.KEY) | Score():
            return False
        case _:
            return all(_is_of_block(mask, size, each) for each in children(node))


def _is_position(mask: MaskIR, node: Expression) -> bool:
    """Whether it is the position of the key."""
    if not (isinstance(node, Coordinate) and node.side is Side.KEY):
        return False
    spaces, value = mask.keys.spaces, _value(mask, node)
    is_axis = len(spaces) == 1 and [axis.name for axis in spaces[0].axes] == [node.name]
    return node.name == "i" or is_axis or (value is not None and _is_position(mask, value))


def _value(mask: MaskIR, key: Coordinate) -> Expression | None:
    """A coordinate of keys of one space as an expression of others, if it is computed so, alike for all heads."""
    definition = mask.keys.definition(key.name)
    if definition is None or len(mask.keys.spaces) > 1:
        return None
    ((_, source),) = definition.sources
    if not isinstance(source, Computed) or reads(source.value).head or reads(source.value).batch:
        return None
    return of_side(source.value, Side.KEY)


def _only_adds(node: Expression) -> bool:
    match node:
        case Apply(op=Op.AND | Op.OR, arguments=operands):
            return all(map(_only_adds, operands))
        case _:
            return node == CONDITION or CONDITION not in walk(node)

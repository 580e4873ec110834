"""How long kernels take to compute integers of one token, beside loading them."""

from itertools import chain

from maskdsl.ir.declared.sequences import Computed, Sequence
from maskdsl.ir.expressions import (
    Apply,
    Constant,
    Coordinate,
    Expression,
    walk,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op

LOAD_COST = 4
"""The light operations that a kernel does in the time of a load of one value of each token of a block."""
_DIVISION_COST = 5


def cost(sequence: Sequence, *expressions: Expression) -> int:
    """The light operations that expressions of one token of a sequence take as long as, together."""
    leaves = sum(_leaf_cost(sequence, leaf) for leaf in reads(*expressions).coordinates)
    return leaves + operations_cost(*expressions)


def operations_cost(*expressions: Expression) -> int:
    """That of their operators."""
    return sum(
        _operation_cost(node) for node in {*chain.from_iterable(map(walk, expressions))} if isinstance(node, Apply)
    )


def _operation_cost(node: Apply) -> int:
    match node:
        case Apply(op=Op.FLOOR_DIVIDE | Op.FLOOR_MODULO, arguments=(_, Constant(value=int(value)))):
            return 1 if value > 0 and value.bit_count() == 1 else _DIVISION_COST
        case Apply(op=Op.FLOOR_DIVIDE | Op.FLOOR_MODULO):
            return 4 * _DIVISION_COST
        case _:
            return 1


def _leaf_cost(sequence: Sequence, leaf: Coordinate) -> int:
    """Positions cost nothing, and are the only axis of a space; other coordinates are loaded or computed."""
    definition = sequence.definition(leaf.name)
    if definition is None:
        return LOAD_COST if leaf.name != "i" and any(len(space.axes) > 1 for space in sequence.spaces) else 0
    values = [source.value for _, source in definition.sources if isinstance(source, Computed)]
    return max([cost(sequence, value) for value in values], default=LOAD_COST)

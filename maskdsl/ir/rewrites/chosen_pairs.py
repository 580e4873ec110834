"""Relations to which a table of choices adds pairs: what attends where it chooses, and what attends anyway.

A route's table says for each query, or group of queries, which groups of keys it chooses. Both relations are then of
positions alone, so that what a call has to find out about pairs is in its table.
"""

from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.declared.sequences import Computed, Sequence
from maskdsl.ir.expressions import (
    FALSE,
    TRUE,
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    Read,
    Side,
    rebuild,
)
from maskdsl.ir.facts.reads import elements, reads
from maskdsl.ir.facts.trace import pair_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify


@dataclass(frozen=True)
class ChosenPairs:
    """A mask whose pairs attend in `chosen` where a table says so, and elsewhere in `fixed`, which has fewer pairs."""

    table: str
    """The input, bool [batch, query heads or fewer, rows, columns] or without heads."""
    row: str
    """The coordinate of queries that is a row of the table."""
    first: str | None
    """The input, int [batch], that is the position of the first row, in calls with some of the queries."""
    width: int
    """The keys of a column, which lie side by side."""
    chosen: MaskIR
    fixed: MaskIR


def chosen_pairs(mask: MaskIR) -> ChosenPairs | None:
    """What the only table that a relation reads chooses; None for other relations, orders and pooled tokens."""
    tables = [each for each in mask.inputs if each.name in reads(mask.relation).inputs and each.dimensions[1:]]
    sequences = mask.queries, mask.keys
    if len(tables) != 1 or any(any(each.order) or each.is_pooled for each in sequences):
        return None
    (table,) = tables
    accesses = {*elements(mask.relation, table.name)}
    if table.type is not Type.BOOL or table.sparse or len(accesses) != 1 or not only_adds(mask.relation, table.name):
        return None
    (*leading, query, key) = accesses.pop().indices
    relations = [simplify(if_chosen(mask.relation, table.name, value)) for value in (TRUE, FALSE)]
    match query:
        case Coordinate(side=Side.QUERY, name=row):
            first = None
        case Apply(
            op=Op.SUBTRACT,
            arguments=(Coordinate(side=Side.QUERY, name=row), Read(input=str(first), indices=(Batch(),))),
        ):
            pass
        case _:
            return None
    match key:
        case Coordinate(side=Side.KEY, name=column) if _is_by_head(mask, table, leading):
            width = _width(mask.keys, column)
        case _:
            return None
    if width is None or not pair_trace(mask, [*relations, Coordinate(Side.QUERY, row), key]).is_fixed:
        return None
    return ChosenPairs(table.name, row, first, width, *(_of_positions(mask, each) for each in relations))


def if_chosen(relation: Expression, table: str, value: Constant) -> Expression:
    """The relation if a table chooses everything (TRUE) or nothing (FALSE)."""

    def chosen(node: Expression) -> Expression | None:
        return value if isinstance(node, Read) and node.input == table else None

    return rebuild(relation, chosen)


def only_adds(relation: Expression, table: str) -> bool:
    """Whether choosing can only add pairs: the table is read below `and` and `or` only."""
    if table not in reads(relation).inputs:
        return True
    match relation:
        case Read():
            return True
        case Apply(op=Op.AND | Op.OR, arguments=operands):
            return all(only_adds(each, table) for each in operands)
        case _:
            return False


def _is_by_head(mask: MaskIR, table: Input, indices: list[Expression]) -> bool:
    """Whether a table is read by batch entry, and by head or by those that share keys, at these first indices."""
    if not table.dimensions or table.dimensions[0].kind is not DimensionKind.BATCH or indices[:1] != [Batch()]:
        return False
    match indices[1:]:
        case []:
            return True
        case [Head()]:
            return True
        case [Apply(op=Op.FLOOR_DIVIDE, arguments=(Head(), Constant(value=shared)))]:
            return mask.heads == int(shared) * (table.dimensions[1].size or 0)
        case _:
            return False


def _width(sequence: Sequence, name: str) -> int | None:
    """The tokens of each value of a coordinate that numbers blocks of a sequence; None for other coordinates."""
    definition = sequence.definition(name)
    match definition and [source for _, source in definition.sources]:
        case [Computed(value=Apply(op=Op.FLOOR_DIVIDE, arguments=(Coordinate(name="i"), Constant(value=int(width)))))]:
            return width if width > 0 and len(sequence.spaces) == 1 else None
        case _:
            return None


def _of_positions(mask: MaskIR, relation: Expression) -> MaskIR:
    """The mask with a relation that reads no inputs."""
    plain = replace(mask, inputs=(), routed=(), scores=(), sinks=(), factor=None)
    return replace(plain, relation=relation, attend=(), require=())

"""Head classes: heads and batch entries that share one relation over the same tokens, and so one tile map.

Heads are one class if their relations, and the coordinates and memory order of their tokens, simplify to the same
expressions. Batch entries are distinguished only if something depends on the batch entry.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from maskdsl.analysis.tiles.descent import Problem
from maskdsl.analysis.tiles.interval_program import Column, compile_program
from maskdsl.analysis.tiles.list_bounds import Bounded, BoundedList
from maskdsl.analysis.tiles.separation import separate
from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls import analysis as errors
from maskdsl.base.progress import begin
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import (
    PAIR,
    Batch,
    Constant,
    Coordinate,
    Expression,
    InSpace,
    Read,
    Side,
    apply,
    rebuild,
    substitute,
)
from maskdsl.ir.facts.intervals import Array, point
from maskdsl.ir.facts.trace import tile_trace, token_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import batch_entries
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import for_head, head_classes, simplify

MOST_TOKENS = 1 << 26
"""The most tokens of either side. A column of that length takes half a gigabyte."""


@dataclass(frozen=True)
class HeadClass:
    """A relation that reads neither head nor batch, over the tokens of one head and batch entry that stand for all."""

    relation: Expression
    head: int
    batch: int


@dataclass(frozen=True, eq=False)
class HeadClasses:
    """The distinct head classes of a mask, and the class of each head."""

    different: tuple[HeadClass, ...]
    index: Array
    """int32 [batch, heads]: the number of each head's class; one row if batch entries do not differ."""


def check_size(mask: MaskIR, block: tuple[int, int]) -> None:
    """Raises `TooManyTokens` if columns would not fit in memory, and `EmptyBlock` if a block has no tokens."""
    longest = max(mask.queries.length, mask.keys.length)
    if longest > MOST_TOKENS:
        raise AttnError(errors.TooManyTokens(pattern=mask.name, count=longest, limit=MOST_TOKENS, span=mask.span))
    if min(block) < 1:
        raise AttnError(errors.EmptyBlock(query=block[0], key=block[1]))


def find_head_classes(
    mask: MaskIR, inputs: Mapping[str, Array], batch: int | None = None, only: int | None = None
) -> HeadClasses:
    """The head classes of a mask, or of only one batch entry.

    `batch` is needed if the relation reads the batch index and no input has entries.
    """
    relations, class_of_head = head_classes(mask.relation, mask.heads)
    kinds, first_heads = token_dependence(mask), heads_of_tokens(mask)
    apart = DimensionKind.BATCH in tile_trace(mask).varies(mask)
    count = batch_entries(mask, inputs) if batch is None else batch
    entries = range(count if apart else 1) if only is None else range(only, only + 1)
    index = np.empty((len(entries), mask.heads), dtype=np.int32)
    numbers: dict[HeadClass, int] = {}
    for row, head in np.ndindex(index.shape):
        entry, number = entries[row], class_of_head[head]
        relation = simplify(substitute(relations[number], {Batch(): Constant(entry)})) if apart else relations[number]
        tokens = first_heads[head], entry if DimensionKind.BATCH in kinds else 0
        index[row, head] = numbers.setdefault(HeadClass(relation, *tokens), len(numbers))
    return HeadClasses(tuple(numbers), index)


def token_dependence(mask: MaskIR) -> frozenset[DimensionKind]:
    """Which of BATCH and HEADS the coordinates that the relation reads, or the memory order of tokens, depend on."""
    return token_trace(mask, [mask.relation], ordered=True).varies(mask)


def heads_of_tokens(mask: MaskIR) -> tuple[int, ...]:
    """For each head, the first head whose tokens have the same order and the same coordinates, of those read."""
    traced = token_trace(mask, [mask.relation], ordered=True)
    if any(DimensionKind.HEADS in each.kinds for each in mask.inputs if each.name in traced.given):
        return tuple(range(mask.heads))
    first: dict[tuple[Expression, ...], int] = {}
    return tuple(
        first.setdefault(tuple(for_head(each, head) for each in traced.expressions), head) for head in range(mask.heads)
    )


Region = tuple[slice, slice]
"""A range of queries and a range of keys, as slices of positions in memory order; neither is empty."""
ALL: Region = (slice(None), slice(None))


def region_lengths(mask: MaskIR, region: Region) -> tuple[int, int]:
    """The numbers of queries and keys in a region."""
    queries, keys = region
    return len(range(mask.queries.length)[queries]), len(range(mask.keys.length)[keys])


def problems(
    mask: MaskIR,
    head_classes: tuple[HeadClass, ...],
    block: tuple[int, int],
    inputs: Mapping[str, Array],
    region: Region = ALL,
) -> Iterator[Problem]:
    """Yields the problem of each head class: its program, and the trees of both sides in memory order."""
    laid_out: dict[tuple[Sequence, int, int], LaidOutTokens] = {}
    last: dict[Side, tuple[object, Tree]] = {}

    def tree(side: Side, head_class: HeadClass, expressions: tuple[Expression, ...]) -> Tree:
        """Of these columns of one side; that of the head class before if they are the same."""
        key = mask.sequences[side], head_class.head, head_class.batch
        if side not in last or last[side][0] != (key, expressions):
            if key not in laid_out:
                coordinates = Coordinates(mask, mask.sequences[side], inputs, head_class.batch, head_class.head)
                laid_out[key] = LaidOutTokens.of(coordinates)
            positions = region[PAIR.index(side)]
            columns = tuple(laid_out[key].values(expression, tables)[positions] for expression in expressions)
            made = Tree.of(columns, lengths[PAIR.index(side)], block[PAIR.index(side)])
            last[side] = (key, expressions), made
        return last[side][1]

    lengths = region_lengths(mask, region)
    for number, head_class in enumerate(head_classes):
        begin(number, len(head_classes))
        relation, tables = fix_tables(head_class.relation, inputs)
        separated = separate(relation, tables)
        query, key = tree(Side.QUERY, head_class, separated.query), tree(Side.KEY, head_class, separated.key)
        yield Problem.of(separated, query, key)


@dataclass(frozen=True, eq=False)
class LaidOutTokens:
    """The tokens of one side in memory order."""

    coordinates: Coordinates
    order: Array | None

    @staticmethod
    def of(coordinates: Coordinates) -> "LaidOutTokens":
        return LaidOutTokens(coordinates, coordinates.permutation())

    def values(self, expression: Expression, tables: Mapping[str, Bounded]) -> Array:
        """[length]: the values of an expression that reads this side only, in memory order."""
        leaves: dict[Expression, int] = {}

        def leaf(node: Expression) -> Column | None:
            match node:
                case Coordinate(side=side) | InSpace(side=side):
                    return Column(side, leaves.setdefault(node, len(leaves)))
                case _:
                    return None

        program = compile_program(expression, tables, leaf)
        columns = [point(self.leaf_values(node)) for node in leaves]
        values = program.run(lambda column: columns[column.index]).low
        return values if self.order is None else values[self.order]

    def leaf_values(self, node: Expression) -> Array:
        """[length]: the values of a leaf, in declared order."""
        match node:
            case Coordinate(name=name):
                return self.coordinates.values(name)
            case InSpace(space=space):
                return self.coordinates.member(space)
            case _:
                raise AssertionError(node)


def fix_tables(relation: Expression, inputs: Mapping[str, Array]) -> tuple[Expression, dict[str, Bounded]]:
    """Slices tables at constant indices, such as the head and batch entry; returns the new relation and tables."""
    tables: dict[str, Bounded] = {}

    def fix_list(node: Read) -> Expression:
        """The read by a row and a column: of one list, or with rows counted through all lists if tokens choose it."""
        values = inputs[node.input]
        if all(isinstance(index, Constant) for index in node.indices[:-2]):
            at = [int(index.value) for index in node.indices[:-2] if isinstance(index, Constant)]
            selected = tuple(min(max(index, 0), length - 1) for index, length in zip(at, values.shape, strict=False))
            text = f"{node.input}[{', '.join(map(str, selected))}]"
            if text not in tables:
                tables[text] = BoundedList.of(values[selected])
            return replace(node, input=text, indices=node.indices[-2:])
        if node.input not in tables:
            tables[node.input] = BoundedList.of(values)
        table, (*front, row, column) = tables[node.input], node.indices
        assert isinstance(table, BoundedList)
        height = table.entries.height
        which: Expression = Constant(0)
        for index, size in zip(front, table.entries.front, strict=True):
            inside = apply(Op.MAXIMUM, apply(Op.MINIMUM, index, Constant(size - 1)), Constant(0))
            which = apply(Op.ADD, apply(Op.MULTIPLY, which, Constant(size)), inside)
        is_row = apply(Op.AND, apply(Op.LESS_EQUAL, Constant(0), row), apply(Op.LESS, row, Constant(height)))
        through = apply(Op.ADD, apply(Op.MULTIPLY, which, Constant(height)), row)
        return replace(node, indices=(apply(Op.SELECT, is_row, through, Constant(-1)) if front else row, column))

    def fix(node: Expression) -> Expression | None:
        if not isinstance(node, Read):
            return None
        if node.sparse:
            return fix_list(node)
        values = inputs[node.input]
        selected = tuple(
            min(max(int(index.value), 0), length - 1) if isinstance(index, Constant) else slice(None)
            for index, length in zip(node.indices, values.shape, strict=True)
        )
        rest = tuple(index for index in node.indices if not isinstance(index, Constant))
        pairs = zip(node.indices, values.shape, strict=True)
        if node.open and any(isinstance(each, Constant) and not 0 <= each.value < size for each, size in pairs):
            return Constant(float("nan"))
        if not rest:
            return Constant(values[selected].item())
        fixed = ", ".join(str(each) if isinstance(each, int) else ":" for each in selected)
        text = f"{node.input}{'?' * node.open}[{fixed}]"
        if text not in tables:
            tables[text] = BoundedTable.of(values[selected], node.open)
        return replace(node, input=text, indices=rest)

    return rebuild(relation, fix), tables

"""The different problems in one mask: heads and batch entries that cannot differ share one.

Heads whose relations simplify to the same expression are one class, where the coordinates and the order of their tokens
do so too. Batch entries are taken apart only where something depends on the batch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from maskdsl.analysis.tiles.descent import Problem
from maskdsl.analysis.tiles.interval_program import Column, compile_program
from maskdsl.analysis.tiles.intervals import Array, point
from maskdsl.analysis.tiles.separation import separate
from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls import analysis as errors
from maskdsl.base.progress import begin
from maskdsl.ir.expressions import (
    Batch,
    Constant,
    Coordinate,
    Expression,
    InSpace,
    Read,
    rebuild,
    substitute,
)
from maskdsl.ir.facts.trace import tile_trace, token_trace
from maskdsl.ir.mask import DimensionKind, MaskIR, Sequence
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import batch_entries
from maskdsl.ir.simplify import for_head, head_classes, simplify

MOST_TOKENS = 1 << 26
"""Of either side. A column of so many takes half a gigabyte."""


@dataclass(frozen=True, slots=True)
class HeadClass:
    """A relation that reads neither head nor batch, on the tokens of one head and batch entry."""

    relation: Expression
    head: int
    batch: int


@dataclass(frozen=True, eq=False)
class HeadClasses:
    different: tuple[HeadClass, ...]
    index: Array
    """int32 [batch, heads]: which of them; one batch entry stands for all where they don't differ."""


def check_size(mask: MaskIR, block: tuple[int, int]) -> None:
    """Raises where columns would not fit in memory, or blocks hold nothing."""
    longest = max(mask.queries.length, mask.keys.length)
    if longest > MOST_TOKENS:
        raise AttnError(errors.TooManyTokens(pattern=mask.name, count=longest, limit=MOST_TOKENS, span=mask.span))
    if min(block) < 1:
        raise AttnError(errors.EmptyBlock(query=block[0], key=block[1]))


def find_head_classes(mask: MaskIR, inputs: Mapping[str, Array], batch: int | None = None) -> HeadClasses:
    """`batch` is needed where the relation reads the batch index and no input tells how many entries there are."""
    relations, class_of_head = head_classes(mask.relation, mask.heads)
    kinds, first_heads = token_dependence(mask), heads_of_tokens(mask)
    apart = DimensionKind.BATCH in tile_trace(mask).varies(mask)
    entries = batch_entries(mask, inputs) if batch is None else batch
    index = np.empty((entries if apart else 1, mask.heads), dtype=np.int32)
    numbers: dict[HeadClass, int] = {}
    for entry, head in np.ndindex(index.shape):
        number = class_of_head[head]
        relation = simplify(substitute(relations[number], {Batch(): Constant(entry)})) if apart else relations[number]
        tokens = first_heads[head], entry if DimensionKind.BATCH in kinds else 0
        index[entry, head] = numbers.setdefault(HeadClass(relation, *tokens), len(numbers))
    return HeadClasses(tuple(numbers), index)


def token_dependence(mask: MaskIR) -> frozenset[DimensionKind]:
    """Whether coordinates that the relation reads, or the order of tokens, depend on the batch entry or the head."""
    return token_trace(mask, [mask.relation], ordered=True).varies(mask)


def heads_of_tokens(mask: MaskIR) -> tuple[int, ...]:
    """For each head the first one whose tokens have the same coordinates, as far as they matter, and the same order."""
    behind = token_trace(mask, [mask.relation], ordered=True)
    if any(DimensionKind.HEADS in each.kinds for each in mask.inputs if each.name in behind.given):
        return tuple(range(mask.heads))
    first: dict[tuple[Expression, ...], int] = {}
    return tuple(
        first.setdefault(tuple(for_head(each, head) for each in behind.expressions), head) for head in range(mask.heads)
    )


Part = tuple[slice, slice]
"""Some queries and some keys: places in laid-out order, from 0 and at least one each."""
ALL: Part = (slice(None), slice(None))


def part_lengths(mask: MaskIR, part: Part) -> tuple[int, int]:
    """Queries and keys of a part."""
    queries, keys = part
    return len(range(mask.queries.length)[queries]), len(range(mask.keys.length)[keys])


def problems(
    mask: MaskIR,
    head_classes: tuple[HeadClass, ...],
    block: tuple[int, int],
    inputs: Mapping[str, Array],
    part: Part = ALL,
) -> Iterator[Problem]:
    """Each head class's relation with the columns of both sides, in laid-out order."""
    sides: dict[tuple[Sequence, int, int], Laid] = {}

    def tree(
        sequence: Sequence, head_class: HeadClass, expressions: tuple[Expression, ...], size: int, positions: slice
    ) -> Tree:
        key = sequence, head_class.head, head_class.batch
        if key not in sides:
            sides[key] = Laid.of(Coordinates(mask, sequence, inputs, head_class.batch, head_class.head))
        columns = tuple(sides[key].values(expression, tables)[positions] for expression in expressions)
        return Tree.of(columns, len(range(sequence.length)[positions]), size)

    for number, head_class in enumerate(head_classes):
        begin(number, len(head_classes))
        relation, tables = fix_tables(head_class.relation, inputs)
        parts = separate(relation, tables)
        query = tree(mask.queries, head_class, parts.query, block[0], part[0])
        yield Problem(parts.program, query, tree(mask.keys, head_class, parts.key, block[1], part[1]))


@dataclass(frozen=True, eq=False)
class Laid:
    """The tokens of one side in laid-out order."""

    coordinates: Coordinates
    order: Array | None

    @staticmethod
    def of(coordinates: Coordinates) -> "Laid":
        return Laid(coordinates, coordinates.permutation())

    def values(self, expression: Expression, tables: Mapping[str, BoundedTable]) -> Array:
        """Of an expression that reads this side alone."""
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
        match node:
            case Coordinate(name=name):
                return self.coordinates.values(name)
            case InSpace(space=space):
                return self.coordinates.member(space)
            case _:
                raise AssertionError(node)


def fix_tables(relation: Expression, inputs: Mapping[str, Array]) -> tuple[Expression, dict[str, BoundedTable]]:
    """Cuts tables down where an index is a constant, as the head's and the batch entry's are by now."""
    tables: dict[str, BoundedTable] = {}

    def fix(node: Expression) -> Expression | None:
        if not isinstance(node, Read):
            return None
        values = inputs[node.input]
        position = tuple(
            min(max(int(index.value), 0), length - 1) if isinstance(index, Constant) else slice(None)
            for index, length in zip(node.indices, values.shape, strict=True)
        )
        rest = tuple(index for index in node.indices if not isinstance(index, Constant))
        pairs = zip(node.indices, values.shape, strict=True)
        if node.open and any(isinstance(each, Constant) and not 0 <= each.value < size for each, size in pairs):
            return Constant(float("nan"))
        if not rest:
            return Constant(values[position].item())
        fixed = ", ".join(str(each) if isinstance(each, int) else ":" for each in position)
        text = f"{node.input}{'?' * node.open}[{fixed}]"
        if text not in tables:
            tables[text] = BoundedTable.of(values[position], node.open)
        return replace(node, input=text, indices=rest)

    return rebuild(relation, fix), tables

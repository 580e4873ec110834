"""Where two patterns over as many queries and keys differ: exact tiles of what only one of them attends."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from maskdsl.analysis.counts.keys_per_query import keys_per_query
from maskdsl.analysis.tiles.block_map import Array, TileMap
from maskdsl.analysis.tiles.descent import Problem, classify
from maskdsl.analysis.tiles.head_classes import (
    ALL,
    HeadClass,
    LaidOutTokens,
    Region,
    check_size,
    find_head_classes,
    fix_tables,
    region_lengths,
)
from maskdsl.analysis.tiles.separation import separate
from maskdsl.analysis.tiles.table_bounds import BoundedTable
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.ir.expressions import Coordinate, Expression, InSpace, Read, apply, rebuild
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import simplify

_SECOND = "second "
"""In front of the names that the second pattern reads. No name of a pattern has a space in it."""


@dataclass(frozen=True, eq=False)
class Share:
    """Some of the pairs: their tiles, and how many they are."""

    tiles: TileMap
    pairs: int


@dataclass(frozen=True, eq=False)
class Difference:
    """Of some heads that are alike, in the first batch entry, laid out in the first pattern's order."""

    heads: tuple[int, ...]
    key_blocks: int
    first: Share
    """What the first pattern alone attends."""
    second: Share
    common: Share

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, as JSON has them."""
        shares = {"first": self.first, "second": self.second, "common": self.common}
        return {"heads": list(self.heads), **{f"{name}_pairs": share.pairs for name, share in shares.items()}}


@dataclass(frozen=True, eq=False)
class Compared:
    """A pattern with the inputs that decide it."""

    mask: MaskIR
    inputs: Mapping[str, Array]

    @staticmethod
    def of(mask: MaskIR, inputs: Mapping[str, object]) -> "Compared":
        return Compared(mask, input_arrays(mask, inputs, relation_inputs(mask, inputs)))


def differences(
    first: Compared, second: Compared, block: tuple[int, int], region: Region = ALL
) -> tuple[Difference, ...]:
    """One for all heads that have the same one. Both patterns have as many queries, keys and heads."""
    check_size(first.mask, block)
    head_classes = [find_head_classes(each.mask, each.inputs) for each in (first, second)]
    pairs: dict[tuple[int, int], list[int]] = {}
    for head in range(first.mask.heads):
        one, other = (int(each.index[0, head]) for each in head_classes)
        pairs.setdefault((one, other), []).append(head)
    columns = -(-region_lengths(first.mask, region)[1] // block[1])
    return tuple(
        Difference(
            tuple(heads),
            columns,
            *(
                _share(problem)
                for problem in _joint_problems(
                    first, second, head_classes[0].different[one], head_classes[1].different[other], block, region
                )
            ),
        )
        for (one, other), heads in pairs.items()
    )


def _share(problem: Problem) -> Share:
    tiles = classify(problem)
    return Share(tiles, int(keys_per_query(problem, tiles).sum()))


def _joint_problems(
    first: Compared, second: Compared, one: HeadClass, other: HeadClass, block: tuple[int, int], region: Region
) -> Iterator[Problem]:
    """What the first one alone attends, then the second one alone, then both."""
    relation, tables = fix_tables(one.relation, first.inputs)
    relation_of_second, tables_of_second = fix_tables(other.relation, second.inputs)
    renamed = _as_second(relation_of_second)
    tables |= {_SECOND + name: table for name, table in tables_of_second.items()}
    sides = [
        _Both.joined(
            Coordinates(first.mask, own, first.inputs, one.batch, one.head),
            Coordinates(second.mask, another, second.inputs, other.batch, other.head),
        )
        for own, another in ((first.mask.queries, second.mask.queries), (first.mask.keys, second.mask.keys))
    ]
    for wanted in (
        (relation, apply(Op.NOT, renamed)),
        (apply(Op.NOT, relation), renamed),
        (relation, renamed),
    ):
        yield _joint_problem(simplify(apply(Op.AND, *wanted)), tables, sides, block, region)


def _joint_problem(
    relation: Expression,
    tables: Mapping[str, BoundedTable],
    sides: list["_Both"],
    block: tuple[int, int],
    region: Region,
) -> Problem:
    parts = separate(relation, tables)
    query, key = (
        Tree.of(
            tuple(side.values(expression, tables)[positions] for expression in expressions),
            len(range(side.coordinates.sequence.length)[positions]),
            size,
        )
        for side, expressions, size, positions in zip(sides, (parts.query, parts.key), block, region, strict=True)
    )
    return Problem(parts.program, query, key)


def _as_second(relation: Expression) -> Expression:
    """The relation with all names marked as those of the second pattern."""

    def mark(node: Expression) -> Expression | None:
        match node:
            case Coordinate(name=name):
                return replace(node, name=_SECOND + name)
            case InSpace(space=space):
                return replace(node, space=_SECOND + space)
            case Read(input=name):
                return replace(node, input=_SECOND + name)
            case _:
                return None

    return rebuild(relation, mark)


@dataclass(frozen=True, eq=False)
class _Both(LaidOutTokens):
    """The tokens of one side with the coordinates of both patterns, in the order of the first."""

    second: Coordinates

    @staticmethod
    def joined(first: Coordinates, second: Coordinates) -> "_Both":
        return _Both(first, first.permutation(), second)

    def leaf_values(self, node: Expression) -> Array:
        match node:
            case Coordinate(name=name) if name.startswith(_SECOND):
                return self.second.values(name.removeprefix(_SECOND))
            case InSpace(space=space) if space.startswith(_SECOND):
                return self.second.member(space.removeprefix(_SECOND))
            case _:
                return super().leaf_values(node)

"""Where two patterns of equal lengths differ: the exact tiles of the pairs that only one of them attends."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from maskdsl.analysis.counts.keys_per_query import keys_per_query
from maskdsl.analysis.tiles.block_map import Array, TileMap
from maskdsl.analysis.tiles.descent import Problem
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
from maskdsl.analysis.tiles.list_bounds import Bounded
from maskdsl.analysis.tiles.separation import separate
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.analysis.tiles.trees import Tree
from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Coordinate, Expression, InSpace, Read, apply, rebuild
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import simplify

_SECOND = "second "
"""The prefix of names that the second pattern reads. No name of a pattern contains a space."""


@dataclass(frozen=True, eq=False)
class Share:
    """A set of pairs: its tiles, and the number of pairs."""

    tiles: TileMap
    pairs: int


@dataclass(frozen=True, eq=False)
class Difference:
    """The difference for heads with the same one, in the first batch entry and the first pattern's memory order."""

    heads: tuple[int, ...]
    key_blocks: int
    first: Share
    """Pairs that only the first pattern attends."""
    second: Share
    """Pairs that only the second pattern attends."""
    common: Share
    """Pairs that both attend."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON."""
        shares = {"first": self.first, "second": self.second, "common": self.common}
        return {"heads": list(self.heads), **{f"{name}_pairs": share.pairs for name, share in shares.items()}}


@dataclass(frozen=True, eq=False)
class Compared:
    """A mask with the inputs that decide its relation."""

    mask: MaskIR
    inputs: Mapping[str, Array]

    @staticmethod
    def of(mask: MaskIR, inputs: Mapping[str, object]) -> "Compared":
        """Checks the inputs. Raises `AttnError` if one is missing or does not fit."""
        return Compared(mask, input_arrays(mask, inputs, relation_inputs(mask, inputs)))


def differences(
    first: Compared, second: Compared, block: tuple[int, int], region: Region = ALL
) -> tuple[Difference, ...]:
    """The differences of all heads, equal ones once. Both masks must have equal numbers of queries, keys and heads."""
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
    """Yields the problems of the pairs that only the first attends, that only the second attends, and that both do."""
    relation, tables = fix_tables(one.relation, first.inputs)
    relation_of_second, tables_of_second = fix_tables(other.relation, second.inputs)
    renamed = _as_second(relation_of_second)
    tables |= {_SECOND + name: table for name, table in tables_of_second.items()}
    sides = [
        _Both.joined(
            Coordinates(first.mask, first_side, first.inputs, one.batch, one.head),
            Coordinates(second.mask, second_side, second.inputs, other.batch, other.head),
        )
        for first_side, second_side in ((first.mask.queries, second.mask.queries), (first.mask.keys, second.mask.keys))
    ]
    for conditions in (
        (relation, apply(Op.NOT, renamed)),
        (apply(Op.NOT, relation), renamed),
        (relation, renamed),
    ):
        yield _joint_problem(simplify(apply(Op.AND, *conditions)), tables, sides, block, region)


def _joint_problem(
    relation: Expression,
    tables: Mapping[str, Bounded],
    sides: list["_Both"],
    block: tuple[int, int],
    region: Region,
) -> Problem:
    separated = separate(relation, tables)
    query, key = (
        Tree.of(
            tuple(side.values(expression, tables)[positions] for expression in expressions),
            len(range(side.coordinates.sequence.length)[positions]),
            size,
        )
        for side, expressions, size, positions in zip(
            sides, (separated.query, separated.key), block, region, strict=True
        )
    )
    return Problem.of(separated, query, key)


def _as_second(relation: Expression) -> Expression:
    """The relation with the prefix of the second pattern on all names."""

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
    """The tokens of one side with the coordinates of both patterns, in the memory order of the first."""

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

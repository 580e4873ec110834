"""How many keys each query attends under one relation, and how many of them the groups with the most or fewest have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from maskdsl.analysis.counts.by_group import keys_by_group
from maskdsl.analysis.counts.keys_per_query import keys_per_query
from maskdsl.analysis.tiles.block_map import Array, TileMap
from maskdsl.analysis.tiles.descent import Problem, classify
from maskdsl.analysis.tiles.head_classes import find_head_classes, problems
from maskdsl.ir.mask import MaskIR

_BLOCK = 64
"""Queries and keys of the tiles that pairs are counted by."""


class GroupSums(Protocol):
    """For each query the keys of some groups. `count` and `candidates` are [queries]."""

    def largest(self, count: Array) -> Array:
        """int64 [queries]: of the `count` groups that have the most."""

    def smallest(self, count: Array, candidates: Array) -> Array:
        """int64 [queries]: of the `count` groups that have the fewest, of so many `candidates`. Only they have any."""


@dataclass(frozen=True, eq=False)
class SingleKeys:
    """Each group has one key."""

    keys: Array
    """int64 [queries]."""

    def largest(self, count: Array) -> Array:
        return np.asarray(np.minimum(count, self.keys))

    def smallest(self, count: Array, candidates: Array) -> Array:
        return np.asarray(np.clip(count - (candidates - self.keys), 0, self.keys))


@dataclass(frozen=True, eq=False)
class _GroupedKeys:
    row: Array
    """int64 [queries]: queries with equal groups share a row."""
    some: Array
    """int64 [rows]: groups that have a key."""
    sums: Array
    """int64 [rows, groups + 1]: of the first groups, those with the fewest keys in front."""

    @staticmethod
    def of(keys: Array) -> "_GroupedKeys":
        """From [queries, groups]. Neighbours are often alike, and are then sorted once."""
        first = np.append(True, np.any(keys[1:] != keys[:-1], axis=1))
        different = np.sort(keys[first], axis=1)
        sums = np.zeros((len(different), keys.shape[1] + 1), dtype=np.int64)
        np.cumsum(different, axis=1, out=sums[:, 1:])
        return _GroupedKeys(np.cumsum(first) - 1, np.count_nonzero(different, axis=1), sums)

    def largest(self, count: Array) -> Array:
        groups = self.sums.shape[1] - 1
        return np.asarray(self.sums[self.row, -1] - self.sums[self.row, np.maximum(groups - count, 0)])

    def smallest(self, count: Array, candidates: Array) -> Array:
        some = self.some[self.row]
        taken = np.clip(count - (candidates - some), 0, some)
        return np.asarray(self.sums[self.row, self.sums.shape[1] - 1 - some + taken])


@dataclass(frozen=True, eq=False)
class Counted:
    """A relation in declared order. What heads and batch entries have in common is counted once."""

    mask: MaskIR
    head_classes: Array
    """Of each batch entry and head, [1 or batch, heads]."""
    parts: tuple[tuple[Problem, TileMap], ...]
    """Of each head class."""
    known: dict[object, Array | GroupSums] = field(default_factory=dict)

    @staticmethod
    def of(mask: MaskIR, inputs: Mapping[str, Array]) -> "Counted":
        head_classes = find_head_classes(mask, inputs)
        found = problems(mask, head_classes.different, (_BLOCK, _BLOCK), inputs)
        return Counted(mask, head_classes.index, tuple((problem, classify(problem)) for problem in found))

    def head_class(self, batch: int, head: int) -> int:
        return int(self.head_classes[batch if len(self.head_classes) > 1 else 0, head])

    def keys(self, batch: int, head: int) -> Array:
        """int64 [queries]."""
        head_class = self.head_class(batch, head)
        if head_class not in self.known:
            self.known[head_class] = keys_per_query(*self.parts[head_class])
        found = self.known[head_class]
        assert isinstance(found, np.ndarray)
        return found

    def by_group(self, batch: int, head: int, groups: Array, count: int) -> GroupSums:
        """`groups` [keys] says each key's group, `count` that it has none."""
        head_class = self.head_class(batch, head)
        position = head_class, groups.tobytes()
        if position not in self.known:
            self.known[position] = _GroupedKeys.of(keys_by_group(*self.parts[head_class], groups, count))
        found = self.known[position]
        assert not isinstance(found, np.ndarray)
        return found

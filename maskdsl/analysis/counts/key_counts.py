"""Keys per query under one relation, and the keys of the largest or smallest key groups of each query."""

from collections.abc import Mapping
from dataclasses import field
from typing import Protocol

import numpy as np

from maskdsl.analysis.counts.by_group import keys_by_group
from maskdsl.analysis.counts.keys_per_query import keys_per_query
from maskdsl.analysis.tiles.block_map import Array, TileMap
from maskdsl.analysis.tiles.descent import Problem
from maskdsl.analysis.tiles.head_classes import find_head_classes, problems
from maskdsl.analysis.tiles.tile_classes import classify
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR

_BLOCK = 64
"""Queries and keys of the tiles used for counting."""


class GroupSums(Protocol):
    """Sums of keys over groups, for each query. `count` and `candidates` are [queries]."""

    def largest(self, count: Array) -> Array:
        """int64 [queries]: keys in the `count` groups with the most keys."""

    def smallest(self, count: Array, candidates: Array) -> Array:
        """int64 [queries]: keys in the `count` smallest of `candidates` groups, outside which there are no keys."""


@dataclass(frozen=True, eq=False)
class SingleKeys:
    """Sums for groups of one key each."""

    keys: Array
    """int64 [queries]: keys of each query."""

    def largest(self, count: Array) -> Array:
        return np.asarray(np.minimum(count, self.keys))

    def smallest(self, count: Array, candidates: Array) -> Array:
        return np.asarray(np.clip(count - (candidates - self.keys), 0, self.keys))


@dataclass(frozen=True, eq=False)
class _GroupedKeys:
    """Sums for groups of several keys."""

    row: Array
    """int64 [queries]: the row of each query in `some` and `sums`; queries with equal counts share one."""
    some: Array
    """int64 [rows]: groups with a key."""
    sums: Array
    """int64 [rows, groups + 1]: prefix sums over groups in ascending order of keys."""

    @staticmethod
    def of(keys: Array) -> "_GroupedKeys":
        """From the keys of each group, [queries, groups]. Neighbouring queries are often equal and then share a row."""
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
class KeyCounts:
    """The keys per query of a relation, in declared order. Each head class is counted once."""

    mask: MaskIR
    head_classes: Array
    """int32 [1 or batch, heads]: the head class of each batch entry and head."""
    problems: tuple[tuple[Problem, TileMap], ...]
    """The problem and the tiles of each head class."""
    known: dict[object, Array | GroupSums] = field(default_factory=dict)

    @staticmethod
    def of(mask: MaskIR, inputs: Mapping[str, Array]) -> "KeyCounts":
        """The key counts of a mask; `inputs` has those that decide its relation."""
        head_classes = find_head_classes(mask, inputs)
        classes = problems(mask, head_classes.different, (_BLOCK, _BLOCK), inputs)
        return KeyCounts(mask, head_classes.index, tuple((problem, classify(problem)) for problem in classes))

    def head_class(self, batch: int, head: int) -> int:
        """The number of a head's class."""
        return int(self.head_classes[batch if len(self.head_classes) > 1 else 0, head])

    def keys(self, batch: int, head: int) -> Array:
        """int64 [queries]: the keys that each query attends."""
        head_class = self.head_class(batch, head)
        if head_class not in self.known:
            self.known[head_class] = keys_per_query(*self.problems[head_class])
        keys = self.known[head_class]
        assert isinstance(keys, np.ndarray)
        return keys

    def by_group(self, batch: int, head: int, groups: Array, count: int) -> GroupSums:
        """The sums over key groups; `groups` [keys] is the group of each key, `count` for none."""
        head_class = self.head_class(batch, head)
        cache_key = head_class, groups.tobytes()
        if cache_key not in self.known:
            self.known[cache_key] = _GroupedKeys.of(keys_by_group(*self.problems[head_class], groups, count))
        sums = self.known[cache_key]
        assert not isinstance(sums, np.ndarray)
        return sums

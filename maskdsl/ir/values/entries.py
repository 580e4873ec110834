"""The entries of sparse inputs, in the one tensor that everything behind a call takes; NumPy.

It holds integers [..., 2 + rows + 1 + most]: the number of rows, the steps of a binary search in the longest row, where
the columns of each row start, and the columns: sorted in each row, -1 behind the last row. Entries are numbered in that
order, in each list from 0. One that is there twice has the number of the first.
"""

from functools import cached_property

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.ops import Array

HEAD = 2
"""The numbers before the row starts."""


@dataclass(frozen=True, eq=False)
class EntryList:
    """The entries of all lists of a sparse input. Rows count through: those of the second list follow the first's."""

    front: tuple[int, ...]
    """The lengths of the dimensions before row and column."""
    height: int
    """The rows of one list."""
    starts: Array
    """int64 [all rows + 1]: the first entry of each row."""
    columns: Array
    """int64 [entries]"""

    @staticmethod
    def of(held: Array) -> "EntryList":
        """The lists in a sparse input's tensor."""
        lists = held.reshape(-1, held.shape[-1]).astype(np.int64)
        height = int(lists[0, 0]) if len(lists) else 1
        starts, columns = lists[:, HEAD : HEAD + height + 1], lists[:, HEAD + height + 1 :]
        before = np.cumsum(starts[:, -1]) - starts[:, -1]
        rows = np.append((starts[:, :-1] + before[:, None]).ravel(), starts[:, -1].sum())
        return EntryList(held.shape[:-1], height, rows, columns[np.arange(columns.shape[1]) < starts[:, -1:]])

    @property
    def rows(self) -> int:
        """The rows of all lists."""
        return len(self.starts) - 1

    @cached_property
    def codes(self) -> Array:
        """int64 [entries], sorted: row and column of each entry in one number."""
        return entry_codes(np.repeat(np.arange(self.rows), np.diff(self.starts)), self.columns)

    @cached_property
    def distinct(self) -> Array:
        """int64: the codes, each once."""
        return distinct(self.codes)

    def row(self, *indices: Array) -> Array:
        """The row, counted through, of the indices before a column; -1 outside of the list."""
        *front, row = np.broadcast_arrays(*indices)
        which = np.zeros(row.shape, dtype=np.int64)
        for index, size in zip(front, self.front, strict=True):
            which = which * size + np.clip(index, 0, size - 1)
        return np.where((row >= 0) & (row < self.height), which * self.height + row, -1)

    def numbers(self, row: Array, column: Array) -> Array:
        """int64: the number of the entry in each row, counted through, and column; -1 where there is none."""
        inside = (row >= 0) & (row < self.rows) & (column >= 0)
        if not len(self.codes):
            return np.full(inside.shape, -1)
        codes = np.where(inside, entry_codes(row, column), -1)
        at = np.searchsorted(self.codes, codes)
        inside = self.codes[np.minimum(at, len(self.codes) - 1)] == codes
        first = np.clip(row, 0, self.rows - 1) // self.height * self.height
        return np.where(inside, at - self.starts[first], -1)


def distinct(codes: Array) -> Array:
    """Sorted numbers of 0 or more, each once."""
    return np.asarray(codes[np.diff(codes, prepend=-1) != 0])


def entry_codes(row: Array, column: Array | int) -> Array:
    """int64: rows and columns in one number each, in the order of entries."""
    return (np.asarray(row, dtype=np.int64) << 31) + column


def entry_numbers(held: Array, *indices: Array) -> Array:
    """int64: the numbers of entries in a sparse input's tensor; `indices` end in row and column, and broadcast."""
    entries = EntryList.of(held)
    return entries.numbers(entries.row(*indices[:-1]), indices[-1])


def held_rows(chosen: Array, most: int) -> Array:
    """The tensor of a sparse input with the entries of bool [..., rows, columns], and room for `most` in each row."""
    lists = chosen.reshape(-1, *chosen.shape[-2:])
    rows = lists.shape[1]
    held = np.full((len(lists), HEAD + rows + 1 + rows * most), -1, dtype=np.int64)
    held[:, :HEAD] = rows, most.bit_length()
    held[:, HEAD] = 0
    held[:, HEAD + 1 : HEAD + rows + 1] = lists.sum(axis=2).cumsum(axis=1)
    for each, of_list in zip(held, lists, strict=True):
        columns = np.nonzero(of_list)[1]
        each[HEAD + rows + 1 : HEAD + rows + 1 + len(columns)] = columns
    return held.reshape(*chosen.shape[:-2], -1)

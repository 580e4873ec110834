"""Labels along an axis of a map: positions of tokens or cells of a grid, and names of spaces where they begin."""

from collections.abc import Mapping
from itertools import pairwise
from math import ceil

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.head_classes import ALL, Region
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates

_LONGEST = 9
"""The most characters of a label."""
_LINES_APART = 6
"""Lines between the labels beside a map."""
_COLUMNS_APART = 12
"""Columns between the labels above a map."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of the tokens of one side, in laid-out order from `start` on."""

    sequence: Sequence
    order: Array | None = None
    """The declared position at each laid-out position; None for the declared order."""
    start: int = 0

    @staticmethod
    def of(mask: MaskIR, sequence: Sequence, inputs: Mapping[str, Array], start: int = 0) -> "Labels | None":
        """The labels of a side; None if the order of tokens depends on the head or the batch entry."""
        if trace(sequence, sequence.sort_keys).varies(mask):
            return None
        return Labels(sequence, Coordinates(mask, sequence, inputs).permutation(), start)

    @staticmethod
    def of_sides(
        mask: MaskIR, inputs: Mapping[str, Array], region: Region = ALL
    ) -> "tuple[Labels | None, Labels | None]":
        """The labels of the queries and of the keys of a region."""
        queries, keys = region
        return (
            Labels.of(mask, mask.queries, inputs, queries.start or 0),
            Labels.of(mask, mask.keys, inputs, keys.start or 0),
        )

    def at(self, index: int) -> str:
        """The label of the token at an index, counted from `start`: its declared position, or its cell `3,17`."""
        position = self.start + index
        if self.order is not None:
            position = int(self.order[position])
        for space, offset in zip(self.sequence.spaces, self.sequence.offsets, strict=True):
            if position < offset + space.size:
                cell = np.unravel_index(position - offset, space.lengths)
                return str(position) if len(cell) == 1 else ",".join(str(int(each)) for each in cell)[:_LONGEST]
        raise AssertionError(index)

    @property
    def axes(self) -> str:
        """The axes that labels name, such as `y,x`; empty unless there is one grid."""
        (space, *others) = self.sequence.spaces
        return "" if others or len(space.axes) == 1 else ",".join(axis.name for axis in space.axes)[:_LONGEST]

    def begins(self, positions: int) -> dict[int, str]:
        """The names of spaces by the position where they begin, of those shown; empty for a single space."""
        if len(self.sequence.spaces) == 1:
            return {}
        starts = zip(self.sequence.spaces, (offset - self.start for offset in self.sequence.offsets), strict=True)
        return {start: space.name[:_LONGEST] for space, start in starts if 0 <= start < positions}

    def marks(self, positions: int, line: "_LabelLine") -> dict[int, str]:
        """Labels by character along an axis of so many positions.

        A name without room where its space begins moves on, as far as the space goes. Numbers stand where names leave
        room for them and for a gap.
        """
        marks: dict[int, str] = {}
        length, free = line.end(positions), 0
        begins = [*self.begins(positions).items(), (positions, "")]
        for (position, name), (end, _) in pairwise(begins):
            at = max(line.start(position), free)
            if at < line.end(end) and at + line.room(name) <= length:
                marks[at] = name
                free = at + line.room(name) + line.lying
        for position in map(line.position, range(0, length, line.apart)):
            if position < positions:
                at, label = line.start(position), self.at(position)
                end = at + line.room(label)
                clear = (end < other or at > other + line.room(name) for other, name in marks.items())
                if end <= length and all(clear):
                    marks[at] = label
        return dict(sorted(marks.items()))


@dataclass(frozen=True)
class _LabelLine:
    """The characters along a side of a map: lines beside it, or columns above it."""

    each: int
    """Tokens of a cell."""
    characters: float
    """Characters of a cell."""
    apart: int
    """Characters from one number to the next."""
    lying: bool
    """Whether labels lie along the line, with a character for each of their letters. Others take one character."""

    def start(self, position: int) -> int:
        """The first character of the cell of a position."""
        return int(position // self.each * self.characters)

    def end(self, position: int) -> int:
        """The first character behind all cells before a position."""
        return ceil(-(-position // self.each) * self.characters)

    def position(self, character: int) -> int:
        """The first position of the cell at a character."""
        return int(character / self.characters) * self.each

    def room(self, label: str) -> int:
        """The characters that a label takes."""
        return len(label) if self.lying else 1


def longest_label(sequence: Sequence) -> int:
    """The most characters of any label of a side."""
    cells = [",".join(str(axis.length - 1) for axis in space.axes) for space in sequence.spaces if len(space.axes) > 1]
    names = [space.name for space in sequence.spaces] if len(sequence.spaces) > 1 else []
    return min(_LONGEST, max(map(len, (str(sequence.length - 1), *cells, *names))))


def beside(labels: Labels, positions: int, each: int, times: int) -> dict[int, str]:
    """Labels by line of a map. Each line shows two rows of cells, and each cell is enlarged so many times."""
    return labels.marks(positions, _LabelLine(each, times / 2, _LINES_APART, lying=False))


def above(labels: Labels, positions: int, each: int, times: int) -> str:
    """The line above a map: each label where its token begins, without labels that do not fit."""
    line = ""
    for at, label in labels.marks(positions, _LabelLine(each, times, _COLUMNS_APART, lying=True)).items():
        line = line.ljust(at) + label
    return line

"""Labels along an axis of a map: positions of tokens or cells of a grid, and names of spaces where they begin."""

from collections.abc import Mapping

import numpy as np

from maskdsl.analysis.tiles.block_map import Array
from maskdsl.analysis.tiles.head_classes import ALL, Region
from maskdsl.base.records import dataclass
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR, Sequence
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
        """The label of the token at an index, counted from `start`: `512`, or `3,17` on a grid."""
        position = self.start + index
        if self.order is not None:
            position = int(self.order[position])
        for space, offset in zip(self.sequence.spaces, self.sequence.offsets, strict=True):
            if position < offset + space.size:
                cell = np.unravel_index(position - offset, space.lengths)
                return ",".join(str(int(each)) for each in cell)[:_LONGEST]
        raise AssertionError(index)

    @property
    def axes(self) -> str:
        """The axes that labels name, such as `y,x`; empty unless there is one grid."""
        (space, *others) = self.sequence.spaces
        return "" if others or len(space.axes) == 1 else ",".join(axis.name for axis in space.axes)[:_LONGEST]

    def begins(self, positions: int) -> dict[int, str]:
        """The names of spaces by the position where they begin, or the first one shown; empty for a single space."""
        if len(self.sequence.spaces) == 1:
            return {}
        named: dict[int, str] = {}
        for space, offset in zip(self.sequence.spaces, self.sequence.offsets, strict=True):
            position = max(0, offset - self.start)
            if position < positions and offset + space.size > self.start:
                named[position] = space.name[:_LONGEST]
        return named

    def marks(self, positions: int, each: int, characters: float, apart: int) -> dict[int, str]:
        """Labels by character along an axis of so many positions, `each` to a cell of so many characters."""
        cells = -(-positions // each)
        marks = {int(position // each * characters): name for position, name in self.begins(positions).items()}
        taken = sorted(marks)
        for character in range(0, int(cells * characters), apart):
            cell = int(character / characters)
            at = int(cell * characters)
            if cell * each < positions and all(abs(at - other) >= min(apart, 2) for other in taken):
                marks.setdefault(at, self.at(cell * each))
        return dict(sorted(marks.items()))


def longest_label(sequence: Sequence) -> int:
    """The most characters of any label of a side."""
    cells = (",".join(str(axis.length - 1) for axis in space.axes) for space in sequence.spaces)
    names = [space.name for space in sequence.spaces] if len(sequence.spaces) > 1 else []
    return min(_LONGEST, max(map(len, (*cells, *names))))


def beside(labels: Labels, positions: int, each: int, times: int) -> dict[int, str]:
    """Labels by line of a map. Each line shows two rows of cells, and each cell is enlarged so many times."""
    return labels.marks(positions, each, times / 2, _LINES_APART)


def above(labels: Labels, positions: int, each: int, times: int) -> str:
    """The line above a map: each label where its token begins, without labels that do not fit."""
    marks = labels.marks(positions, each, times, _COLUMNS_APART)
    width = -(-positions // each) * times
    line = ""
    for at, label in marks.items():
        if (at == 0 or at > len(line)) and at + len(label) <= width:
            line = line.ljust(at) + label
    return line

"""The rows and runs of random calls of the kernels in C, from dense arrays, as `codegen/native.c` describes them."""

from collections.abc import Sequence
from ctypes import Structure
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.support.c_structures import constant, structures

Array = NDArray[Any]
LANES, ROW = constant("LANES"), constant("ROW")


@dataclass
class Lists:
    """Rows of queries, or segments of them, one after the other."""

    panels: Sequence[tuple[int, int]]
    """The first key of each panel, and the key behind its last one."""
    word: int
    """Of masks and biases, the row of the first query."""
    has_bias: bool
    repeats: bool
    """Whether panels side by side with equal masks share one."""
    rows: list[tuple[int, ...]] = field(default_factory=list)
    runs: list[list[int]] = field(default_factory=list)
    words: list[Array] = field(default_factory=list)
    biases: list[tuple[int, ...]] = field(default_factory=list)
    """Of each panel, where its biases come from: what `add_row` got, and its keys."""
    segments: list[tuple[int, ...]] = field(default_factory=list)
    members: list[int] = field(default_factory=list)

    def add_row(self, first: int, pairs: Array, panels: Sequence[int], where: tuple[int, ...] = ()) -> None:
        """A row whose queries begin at `first`, and attend these pairs, bool [queries, keys], in these panels."""
        begun = len(self.runs)
        for panel in panels:
            start, stop = self.panels[panel]
            here = pairs[:, start:stop]
            if here.any():
                self._add_panel(panel, here, begun)
                self.biases.append((*where, start, stop))
        self.rows.append((first, len(pairs), begun, len(self.runs) - begun, self.word))

    def _add_panel(self, panel: int, here: Array, begun: int) -> None:
        bits = (here << np.arange(here.shape[1])).sum(axis=1)
        words = np.pad(bits, (self.word, ROW - len(bits) - self.word))
        is_full = bool(here.all())
        last = self.runs[-1] if self.runs[begun:] else None
        if last is not None and last[0] + last[1] == panel:
            same = last[2] < -1 and not is_full and np.array_equal(self.words[-2 - last[2]], words)
            if same or (last[2] == -1 and is_full) or (last[2] >= 0 and not is_full):
                last[1] += 1
                if last[2] >= 0:
                    self.words.append(words)
                return
        mask = -1 if is_full else -2 - len(self.words) if self.repeats else len(self.words)
        self.runs.append([panel, 1, mask, len(self.biases) if self.has_bias else -1])
        if not is_full:
            self.words.append(words)

    def add_segment(self, first: int, pairs: Array, random: np.random.Generator) -> None:
        """Queries from `first` on, of all heads that share keys, which attend these pairs, bool [heads, queries, keys].

        Each takes its panels in several rows, among other queries.
        """
        heads, count, _ = pairs.shape
        of_members = pairs.reshape(heads * count, -1)
        begun, of_panel = len(self.rows), random.integers(0, 3, len(self.panels))
        for number in range(3):
            panels = [int(each) for each in np.flatnonzero(of_panel == number)]
            keys = [key for each in panels for key in range(*self.panels[each])]
            attend = [int(each) for each in np.flatnonzero(of_members[:, keys].any(axis=1))]
            random.shuffle(attend)
            for at in range(0, len(attend), ROW - self.word):
                some = attend[at : at + ROW - self.word]
                self.add_row(len(self.members), of_members[some], panels)
                self.members += some
        self.segments.append((first, count, begun, len(self.rows) - begun))

    def arrays(self) -> dict[str, Array]:
        structure = structures()
        made = {
            "rows": _records(self.rows, structure["row"]),
            "runs": _records(self.runs, structure["run"]),
            "words": np.array(self.words, np.uint16).reshape(-1, ROW),
        }
        if self.segments:
            segments = _records(self.segments, structure["segment"])
            made |= {"segments": segments, "members": np.array(self.members, np.int32)}
        return made


def _records(rows: Sequence[Sequence[int]], kind: type[Structure]) -> Array:
    """Numbers as they lie in an array of structures."""
    return np.frombuffer(b"".join(bytes(kind(*each)) for each in rows), np.uint8)

"""Tiles to predicted times: how long an attention kernel takes on a GPU, from its exact tiles and a datasheet.

The model, for numbers of two bytes and a head dimension d:
- a kernel runs one program for each row of tiles of each head and batch entry; a multiprocessor computes the programs
  that it holds at the rate of its share of the chip, times the fraction that attention kernels are known to reach;
- a tile costs its whole area, ragged or not: 2 d operations a pair for each product of matrices;
- a partial tile costs besides `_PAIR_OPERATIONS` plain instructions a pair;
- a row costs besides `_ROW_LOADS` waits for memory, which other programs on the multiprocessor hide;
- programs start in the order of the kernel, each where a multiprocessor is free first. The last may leave others idle;
- each tensor is read or written once, and the other side again by every wave of rows where it does not fit the cache;
- the time is the longer one of computing and of moving bytes.

Left out: launches and what Python does, the lists of tiles, scores and weights of a pattern, heads that share keys,
power limits, and what a kernel leaves behind for another in the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from maskdsl.analysis.cost.devices import Device
from maskdsl.analysis.tiles.block_map import Array, BlockMap, Runs, TileMap

ELEMENT_SIZE = 2
"""Bytes of bfloat16 and float16."""
_PAIR_OPERATIONS = 7
"""Instructions for a pair of a partial tile, which find out whether it attends. Fitted to the published times of
NATTEN's kernels on the H100 and B200, of windows over lines, images and videos, masked and not: see the tests."""
_ROW_LOADS = 4
"""Loads of a row that wait for each other: its runs, their limits, the first keys, the first values; from the skeleton
of the kernel."""
_LATENCY = 480
"""Cycles until a load from memory is back: Luo et al. 2024 (arXiv 2402.13499) on A100 and H100; assumed on others."""
_LAST_WAVES = 16
"""So many waves of programs are followed to their end; before them no multiprocessor is ever idle."""
_PARTS = 8
"""A wave is handed out in so many parts."""


@dataclass(frozen=True)
class KernelModel:
    """What a kernel does with each tile."""

    name: str
    products: int
    """Of matrices, for each tile."""
    by_keys: bool
    """A program has a block of keys and walks along the queries, in place of the other way round."""
    row_tensors: int
    """Of the program's own side, read or written."""
    backward: bool


FORWARD = KernelModel("forward", 2, by_keys=False, row_tensors=2, backward=False)
QUERY_GRADIENT = KernelModel("query gradient", 3, by_keys=False, row_tensors=3, backward=True)
KEY_GRADIENT = KernelModel("key gradient", 4, by_keys=True, row_tensors=4, backward=True)

_WALKED_TENSORS = 2
"""Of the other side: keys and values, or queries and the gradient of the output."""


@dataclass(frozen=True)
class Cost:
    """What a kernel is predicted to take, and why."""

    device: str
    kernel: str
    flops: int
    """Of products of matrices, over whole tiles."""
    bytes: int
    """From and to memory."""
    programs: int
    waves: float
    """Programs over those that run at once. The last, broken one leaves multiprocessors idle."""
    longest_row: int
    """Tiles of the longest row."""
    arithmetic_seconds: float
    """If all multiprocessors were always busy: no schedule is faster."""
    memory_seconds: float
    """To move the bytes: nothing is faster."""
    row_seconds: float
    """Of the longest row, alone: nothing is faster."""
    schedule_seconds: float
    """Of all programs in the order of the kernel."""

    @property
    def seconds(self) -> float:
        return max(self.schedule_seconds, self.memory_seconds)

    @property
    def lower_bound(self) -> float:
        """Seconds that no order of programs is below."""
        return max(self.arithmetic_seconds, self.memory_seconds, self.row_seconds)

    @property
    def balance(self) -> float:
        """The part of the schedule in which multiprocessors are busy, 0 to 1."""
        return self.arithmetic_seconds / self.schedule_seconds if self.schedule_seconds else 1.0

    @property
    def limit(self) -> str:
        """What the time is made of: `memory`, `arithmetic`, or `long row` where the chip waits for that one; `few rows`
        where there are none for parts of it."""
        if self.memory_seconds >= self.schedule_seconds:
            return "memory"
        if self.row_seconds <= self.arithmetic_seconds:
            return "arithmetic"
        return "long row" if self.waves > 1 else "few rows"

    def as_dict(self) -> dict[str, Any]:
        derived = ("seconds", "lower_bound", "balance", "limit")
        return vars(self) | {name: getattr(self, name) for name in derived}


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one head class, in the order in which their programs start."""

    tiles: Array
    """int64 [rows]: tiles of each, of both kinds."""
    partial: Array
    """int64 [rows]: those of them that are partial."""
    runs: Runs
    """All tiles."""
    row_block: int
    column_block: int
    columns: int
    """Tokens of the other side."""

    @staticmethod
    def of(tiles: TileMap, block_map: BlockMap, kernel: KernelModel) -> "Rows":
        """By blocks of queries, the last first, or by blocks of keys, the first first: as the kernels have it."""
        query_block, key_block = block_map.block
        if kernel.by_keys:
            by_keys = tiles.transpose(block_map.key_blocks)
            return Rows.counted(by_keys, key_block, query_block, block_map.query_length)
        return Rows.counted(tiles, query_block, key_block, block_map.key_length, backwards=True)

    @staticmethod
    def counted(tiles: TileMap, row_block: int, column_block: int, columns: int, backwards: bool = False) -> "Rows":
        full, partial = tiles.full, tiles.partial
        segments = [np.concatenate([getattr(full, name), getattr(partial, name)]) for name in ("row", "start", "end")]
        if backwards:
            segments[0] = full.rows - 1 - segments[0]
        step = -1 if backwards else 1
        counts, partial_counts = (full.counts + partial.counts)[::step], partial.counts[::step]
        return Rows(counts, partial_counts, Runs.of_segments(full.rows, *segments), row_block, column_block, columns)

    @property
    def count(self) -> int:
        return len(self.tiles)

    def columns_read(self, rows_at_once: int) -> int:
        """Tokens of the other side that waves of so many rows read, each token once a wave."""
        width = int(self.runs.end.max(initial=0)) + 1
        wave = self.runs.row // rows_at_once * np.int64(width)
        position = np.argsort(wave + self.runs.start)
        start, end = (wave + self.runs.start)[position], (wave + self.runs.end)[position]
        reached = np.maximum.accumulate(end)
        begin = np.maximum(start, np.concatenate([[0], reached[:-1]]))
        blocks = int(np.maximum(end - begin, 0).sum())
        return min(blocks * self.column_block, -(-self.count // rows_at_once) * self.columns)


@dataclass(frozen=True)
class Model:
    """One kernel on one GPU."""

    device: Device
    kernel: KernelModel
    block: tuple[int, int]
    head_dim: int
    warps: int
    stages: int

    @property
    def shared_memory(self) -> int:
        """Bytes of a program: its own block, and in each stage one block of both tensors that it walks along."""
        own, walked = reversed(self.block) if self.kernel.by_keys else self.block
        return ELEMENT_SIZE * self.head_dim * (own + self.stages * _WALKED_TENSORS * walked)

    @property
    def resident(self) -> int:
        """Programs on one multiprocessor."""
        return self.device.resident(self.warps, self.shared_memory)

    @property
    def tile_flops(self) -> int:
        return 2 * self.kernel.products * self.head_dim * self.block[0] * self.block[1]

    def row_times(self, rows: Rows) -> Array:
        """float64 [rows]: seconds of each, alone on its multiprocessor."""
        device = self.device
        fraction = device.backward_fraction if self.kernel.backward else device.forward_fraction
        full = self.tile_flops / (device.matrix_flops * fraction / device.multiprocessors)
        masking = _PAIR_OPERATIONS * self.block[0] * self.block[1] / (device.lanes * device.clock)
        waiting = _ROW_LOADS * _LATENCY / device.clock / self.resident
        return np.asarray(rows.tiles * full + rows.partial * masking + waiting)

    def bytes(self, rows: Rows) -> int:
        """Of one head of one batch entry."""
        at_once = self.device.multiprocessors * self.resident
        token = ELEMENT_SIZE * self.head_dim
        fits = _WALKED_TENSORS * rows.columns * token <= self.device.cache
        walked = rows.columns_read(rows.count if fits else at_once)
        return token * (self.kernel.row_tensors * rows.count * rows.row_block + _WALKED_TENSORS * walked)


def predict(
    tiles: BlockMap,
    device: Device,
    kernel: KernelModel = FORWARD,
    *,
    head_dim: int = 64,
    batch: int = 1,
    warps: int = 8,
    stages: int = 2,
) -> Cost:
    """The cost of one call on tensors [batch, heads, tokens, head dim]; `heads` are those of the tiles.

    `batch` counts where tiles are the same in all entries; otherwise it is that of the tiles. `warps` and `stages`
    are those of the kernel.
    """
    entries = batch if len(tiles.class_of_head) == 1 else len(tiles.class_of_head)
    order = np.broadcast_to(tiles.class_of_head, (entries, tiles.class_of_head.shape[1])).ravel()
    uses = np.bincount(order, minlength=len(tiles.head_classes))
    head_classes = [Rows.of(each, tiles, kernel) for each in tiles.head_classes]
    model = Model(device, kernel, tiles.block, head_dim, warps, stages)
    times = [model.row_times(rows) for rows in head_classes]
    moved = int(uses @ [model.bytes(rows) for rows in head_classes])
    programs = len(order) * head_classes[0].count
    return Cost(
        device=device.name,
        kernel=kernel.name,
        flops=int(uses @ [int(rows.tiles.sum()) for rows in head_classes]) * model.tile_flops,
        bytes=moved,
        programs=programs,
        waves=programs / (device.multiprocessors * model.resident),
        longest_row=max(int(rows.tiles.max()) for rows in head_classes),
        arithmetic_seconds=float(uses @ [time.sum() for time in times]) / device.multiprocessors,
        memory_seconds=moved / device.bandwidth,
        row_seconds=float(max(time.max() for time in times)),
        schedule_seconds=schedule(times, order, device.multiprocessors),
    )


def schedule(times: Sequence[Array], order: Array, servers: int) -> float:
    """Seconds until the last program ends, where each starts on the first multiprocessor that is free.

    `times` are those of the rows of every head class; `order` says which head class comes when. A few programs are
    handed out at once, to the multiprocessors that are free first.
    """
    heads = -(-_LAST_WAVES * servers // len(times[0]))
    early, late = order[: max(0, len(order) - heads)], order[max(0, len(order) - heads) :]
    before = (
        float(sum(times[head_class].sum() * count for head_class, count in enumerate(np.bincount(early)))) / servers
    )
    programs = np.concatenate([times[head_class] for head_class in late])
    ends = np.full(servers, before + programs[: -_LAST_WAVES * servers].sum() / servers)
    last, few = programs[-_LAST_WAVES * servers :], -(-servers // _PARTS)
    for begin in range(0, len(last), few):
        handed = last[begin : begin + few]
        ends[: len(handed)] += handed
        ends.sort()
    return float(ends[-1])

"""Tiles to predicted times: how long an attention kernel takes on a GPU, from its exact tiles and a datasheet.

The model, for 16-bit floats and head dimension d:
- a kernel runs one program per row of tiles of each head and batch entry; a multiprocessor computes at its share of the
  chip's rate, times the fraction that attention kernels are known to reach;
- a tile costs its whole area, ragged or not: 2 d operations per pair for each matrix product;
- a partial tile costs `_PAIR_OPERATIONS` more instructions per pair;
- a row costs `_ROW_LOADS` more memory latencies, divided by the resident programs that hide them;
- programs start in the order of the kernel, each on the first free multiprocessor, so the last ones may leave others
  idle;
- each tensor is read or written once; those of the other side are read again by every wave of rows if they do not fit
  the cache;
- the time is the maximum of computing and moving bytes.

Not modelled: launches and Python, lists of tiles, scores and weights of a pattern, heads that share keys, power limits,
and cache contents between kernels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from maskdsl.analysis.cost.devices import Device
from maskdsl.analysis.tiles.block_map import Array, BlockMap, Runs, TileMap
from maskdsl.base.records import dataclass

ELEMENT_SIZE = 2
"""Bytes of bfloat16 and float16."""
_PAIR_OPERATIONS = 7
"""Instructions per pair of a partial tile to evaluate the mask. Fitted to published times of NATTEN's kernels on the
H100 and B200, for windows in 1-D, 2-D and 3-D, masked and not: see the tests."""
_ROW_LOADS = 4
"""Dependent loads of a row: its runs, their limits, the first keys, the first values; counted in the kernel's
skeleton."""
_LATENCY = 480
"""Memory latency in cycles: Luo et al. 2024 (arXiv 2402.13499) for A100 and H100; assumed for others."""
_LAST_WAVES = 16
"""Waves of programs that are scheduled one by one at the end; before them no multiprocessor is idle."""
_BATCHES = 8
"""Batches in which the programs of a wave are scheduled."""


@dataclass(frozen=True)
class KernelModel:
    """What a kernel computes and moves for each tile."""

    name: str
    products: int
    """Matrix products per tile."""
    by_keys: bool
    """Whether a program has a block of keys and loops over queries, in place of the other way round."""
    row_tensors: int
    """Tensors of the side of the program's block, read or written."""
    backward: bool


FORWARD = KernelModel("forward", 2, by_keys=False, row_tensors=2, backward=False)
QUERY_GRADIENT = KernelModel("query gradient", 3, by_keys=False, row_tensors=3, backward=True)
KEY_GRADIENT = KernelModel("key gradient", 4, by_keys=True, row_tensors=4, backward=True)

_LOOP_TENSORS = 2
"""Tensors of the side that the program loops over: keys and values, or queries and dO."""


@dataclass(frozen=True)
class Cost:
    """The predicted time of a kernel, and its causes."""

    device: str
    kernel: str
    flops: int
    """Operations of matrix products, over whole tiles."""
    bytes: int
    """Bytes from and to memory."""
    programs: int
    waves: float
    """Programs over resident programs of the chip; the fractional last wave leaves multiprocessors idle."""
    longest_row: int
    """Tiles of the longest row."""
    arithmetic_seconds: float
    """Seconds if all multiprocessors were always busy: a lower bound."""
    memory_seconds: float
    """Seconds to move the bytes: a lower bound."""
    row_seconds: float
    """Seconds of the longest row: a lower bound."""
    schedule_seconds: float
    """Seconds of all programs in the order of the kernel."""

    @property
    def seconds(self) -> float:
        """The predicted time."""
        return max(self.schedule_seconds, self.memory_seconds)

    @property
    def lower_bound(self) -> float:
        """Seconds below which no order of programs is."""
        return max(self.arithmetic_seconds, self.memory_seconds, self.row_seconds)

    @property
    def balance(self) -> float:
        """The share of the schedule in which multiprocessors are busy, 0 to 1."""
        return self.arithmetic_seconds / self.schedule_seconds if self.schedule_seconds else 1.0

    @property
    def limit(self) -> str:
        """What limits the time: `memory`, `arithmetic`, `long row` (the chip waits for the longest row) or `few rows`
        (fewer rows than multiprocessors can hold)."""
        if self.memory_seconds >= self.schedule_seconds:
            return "memory"
        if self.row_seconds <= self.arithmetic_seconds:
            return "arithmetic"
        return "long row" if self.waves > 1 else "few rows"

    def as_dict(self) -> dict[str, Any]:
        """All fields and properties, for JSON."""
        derived = ("seconds", "lower_bound", "balance", "limit")
        return vars(self) | {name: getattr(self, name) for name in derived}


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of tiles of one head class, in the order in which their programs start."""

    tiles: Array
    """int64 [rows]: full and partial tiles of each row."""
    partial: Array
    """int64 [rows]: partial tiles of each row."""
    runs: Runs
    """The runs of all tiles."""
    row_block: int
    """Tokens of a row's block."""
    column_block: int
    """Tokens of a block of the other side."""
    columns: int
    """Tokens of the other side."""

    @staticmethod
    def of(tiles: TileMap, block_map: BlockMap, kernel: KernelModel) -> "Rows":
        """The rows of a kernel: blocks of queries from the last to the first, or blocks of keys from first to last."""
        query_block, key_block = block_map.block
        if kernel.by_keys:
            by_keys = tiles.transpose(block_map.key_blocks)
            return Rows.counted(by_keys, key_block, query_block, block_map.query_length)
        return Rows.counted(tiles, query_block, key_block, block_map.key_length, backwards=True)

    @staticmethod
    def counted(tiles: TileMap, row_block: int, column_block: int, columns: int, backwards: bool = False) -> "Rows":
        """The rows of a tile map, from the last to the first if `backwards`."""
        full, partial = tiles.full, tiles.partial
        segments = [np.concatenate([getattr(full, name), getattr(partial, name)]) for name in ("row", "start", "end")]
        if backwards:
            segments[0] = full.rows - 1 - segments[0]
        step = -1 if backwards else 1
        counts, partial_counts = (full.counts + partial.counts)[::step], partial.counts[::step]
        return Rows(counts, partial_counts, Runs.of_segments(full.rows, *segments), row_block, column_block, columns)

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.tiles)

    def columns_read(self, rows_at_once: int) -> int:
        """Tokens of the other side read by waves of `rows_at_once` rows, each token once per wave."""
        width = int(self.runs.end.max(initial=0)) + 1
        wave = self.runs.row // rows_at_once * np.int64(width)
        order = np.argsort(wave + self.runs.start)
        start, end = (wave + self.runs.start)[order], (wave + self.runs.end)[order]
        reached = np.maximum.accumulate(end)
        begin = np.maximum(start, np.concatenate([[0], reached[:-1]]))
        blocks = int(np.maximum(end - begin, 0).sum())
        return min(blocks * self.column_block, -(-self.count // rows_at_once) * self.columns)


@dataclass(frozen=True)
class Model:
    """One kernel with its launch configuration on one GPU."""

    device: Device
    kernel: KernelModel
    block: tuple[int, int]
    head_dim: int
    warps: int
    stages: int

    @property
    def shared_memory(self) -> int:
        """Bytes of a program: its block of one tensor, and per stage a block of both tensors that it loops over."""
        row_block, loop_block = reversed(self.block) if self.kernel.by_keys else self.block
        return ELEMENT_SIZE * self.head_dim * (row_block + self.stages * _LOOP_TENSORS * loop_block)

    @property
    def resident(self) -> int:
        """Programs that one multiprocessor holds at once."""
        return self.device.resident(self.warps, self.shared_memory)

    @property
    def tile_flops(self) -> int:
        """Floating-point operations of one tile."""
        return 2 * self.kernel.products * self.head_dim * self.block[0] * self.block[1]

    def row_times(self, rows: Rows) -> Array:
        """float64 [rows]: seconds of each row on its multiprocessor."""
        device = self.device
        fraction = device.backward_fraction if self.kernel.backward else device.forward_fraction
        full = self.tile_flops / (device.matrix_flops * fraction / device.multiprocessors)
        masking = _PAIR_OPERATIONS * self.block[0] * self.block[1] / (device.lanes * device.clock)
        waiting = _ROW_LOADS * _LATENCY / device.clock / self.resident
        return np.asarray(rows.tiles * full + rows.partial * masking + waiting)

    def bytes(self, rows: Rows) -> int:
        """Bytes moved for one head and batch entry."""
        at_once = self.device.multiprocessors * self.resident
        token = ELEMENT_SIZE * self.head_dim
        fits = _LOOP_TENSORS * rows.columns * token <= self.device.cache
        loop_tokens = rows.columns_read(max(rows.count, 1) if fits else at_once)
        return token * (self.kernel.row_tensors * rows.count * rows.row_block + _LOOP_TENSORS * loop_tokens)


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
    """The cost of one call of a kernel on tensors [batch, heads, tokens, head dim], with the heads of the block map.

    `batch` is used if the map has one batch entry for all; otherwise the map's is. `warps` and `stages` are those of
    the kernel's launch.
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
        longest_row=max(int(rows.tiles.max(initial=0)) for rows in head_classes),
        arithmetic_seconds=float(uses @ [time.sum() for time in times]) / device.multiprocessors,
        memory_seconds=moved / device.bandwidth,
        row_seconds=float(max(time.max(initial=0.0) for time in times)),
        schedule_seconds=schedule(times, order, device.multiprocessors),
    )


def schedule(times: Sequence[Array], order: Array, servers: int) -> float:
    """Seconds until the last program ends, if each starts on the first free of `servers` multiprocessors.

    `times` has the seconds of the rows of every head class; `order` is the head class of each head in turn. Programs
    are scheduled in small batches, each batch to the multiprocessors that are free first.
    """
    if not len(times[0]):
        return 0.0
    heads = -(-_LAST_WAVES * servers // len(times[0]))
    early, late = order[: max(0, len(order) - heads)], order[max(0, len(order) - heads) :]
    before = (
        float(sum(times[head_class].sum() * count for head_class, count in enumerate(np.bincount(early)))) / servers
    )
    programs = np.concatenate([times[head_class] for head_class in late])
    ends = np.full(servers, before + programs[: -_LAST_WAVES * servers].sum() / servers)
    last, size = programs[-_LAST_WAVES * servers :], -(-servers // _BATCHES)
    for begin in range(0, len(last), size):
        batch = last[begin : begin + size]
        ends[: len(batch)] += batch
        ends.sort()
    return float(ends[-1])

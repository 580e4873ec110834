"""The model of costs: its parts against plain sums, and its figures against published ones."""

import json
from dataclasses import replace
from heapq import heapify, heapreplace
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.cost.devices import B200, DEVICES, H100, find_device
from maskdsl.analysis.cost.model import FORWARD, KEY_GRADIENT, QUERY_GRADIENT, Model, Rows, predict, schedule
from maskdsl.analysis.tiles.block_map import BlockMap, Runs, TileMap
from maskdsl.base.diagnostics import AttnError

RECORD = Path(__file__).parents[2] / "benchmarks/results/aot.json"
KERNELS = [FORWARD, QUERY_GRADIENT, KEY_GRADIENT]


def block_map(*classes, block=(128, 128), heads=None, ragged=(0, 0)):
    """From the classes of the tiles of every head class."""
    head_classes = tuple(
        TileMap(Runs.of_dense(each == 2), Runs.of_dense(each == 1)) for each in map(np.asarray, classes)
    )
    rows, columns = np.asarray(classes[0]).shape
    of_heads = np.arange(len(classes)) if heads is None else np.asarray(heads)
    lengths = rows * block[0] - ragged[0], columns * block[1] - ragged[1]
    return BlockMap(block, *lengths, head_classes, of_heads.astype(np.int32)[None])


def dense(length, heads=1, block=(128, 128)):
    return block_map(np.full((length // block[0], length // block[1]), 2), block=block, heads=[0] * heads)


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_rates_of_datasheets_are_whole_numbers_of_operations_a_cycle(device):
    """Which a misread rate, count or clock would not be."""
    a_cycle = device.matrix_flops / device.multiprocessors / device.clock
    assert a_cycle == pytest.approx(2 ** round(np.log2(a_cycle)), rel=0.001)
    assert 0.2 < device.backward_fraction < device.forward_fraction < 0.75


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_registers_are_those_of_compiled_kernels(device):
    results = json.loads(RECORD.read_text())["results"].values()
    found = [each[device.architecture]["64"]["forward_kernel"]["registers"] for each in results]
    assert median(found) == pytest.approx(device.thread_registers, rel=0.15)


@pytest.mark.parametrize("dim", [64, 128])
def test_shared_memory_is_that_of_compiled_kernels(dim):
    """On Hopper, whose matrix instructions read queries and keys there; blocks of most patterns in `tile_table`."""
    found = [
        each["sm90"][str(dim)]["forward_kernel"]["shared"]
        for each in json.loads(RECORD.read_text())["results"].values()
    ]
    model = Model(H100, FORWARD, (128, 64), dim, warps=8, stages=3).shared_memory
    assert model in found
    assert median(found) == pytest.approx(model, rel=0.01)  # conditions of tokens take some, too


def test_names_of_gpus():
    assert find_device("h100") is H100
    with pytest.raises(AttnError, match="E352") as error:
        find_device("h10")
    assert "`H100`" in str(error.value) and "did you mean" in str(error.value)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_parts_against_sums_over_tiles(device, kernel):
    random = np.random.default_rng(3)
    first, second = (random.integers(0, 3, (37, 23)) for _ in range(2))
    cost = predict(block_map(first, second, heads=[0, 1, 1]), device, kernel, head_dim=64, batch=2)
    tiles = 2 * (np.count_nonzero(first) + 2 * np.count_nonzero(second))
    assert cost.flops == tiles * 128 * 128 * 64 * 2 * kernel.products
    assert cost.programs == 6 * (23 if kernel.by_keys else 37)
    axis = 0 if kernel.by_keys else 1
    assert cost.longest_row == max(np.count_nonzero(each, axis=axis).max() for each in (first, second))
    assert cost.arithmetic_seconds <= cost.schedule_seconds <= cost.arithmetic_seconds + cost.row_seconds
    assert cost.lower_bound <= cost.seconds and 0 < cost.balance <= 1
    assert json.loads(json.dumps(cost.as_dict()))["seconds"] == cost.seconds


def greedy(programs, servers):
    """Each program on the multiprocessor that is free first, one by one."""
    ends = [0.0] * servers
    heapify(ends)
    for each in programs:
        heapreplace(ends, ends[0] + each)
    return max(ends)


@pytest.mark.parametrize("seed", range(20))
def test_schedules_are_near_those_that_go_one_by_one(seed):
    random = np.random.default_rng(seed)
    times = [random.uniform(0.5, 1.5 + 3 * random.random(), 300) for _ in range(2)]
    order = random.integers(0, 2, random.integers(1, 60))
    expected = greedy(np.concatenate([times[each] for each in order]), 108)
    found = schedule(times, order, 108)
    longest = max(each.max() for each in times)
    assert abs(found - expected) <= longest
    assert found >= np.concatenate([times[each] for each in order]).sum() / 108 - 1e-9


@pytest.mark.parametrize(("count", "waves"), [(108, 1), (109, 2), (216, 2), (300, 3)])
def test_equal_programs_take_whole_waves(count, waves):
    assert schedule([np.ones(count)], np.zeros(1, dtype=int), 108) == waves


def test_long_schedules_are_cut_short_without_harm():
    times = [np.random.default_rng(0).uniform(0.5, 1.5, 500)]
    order = np.zeros(40, dtype=int)
    assert schedule(times, order, 108) == pytest.approx(greedy(np.tile(times[0], 40), 108), rel=0.01)


@pytest.mark.parametrize("at_once", [1, 3, 7, 100])
@pytest.mark.parametrize("kernel", [FORWARD, KEY_GRADIENT], ids=lambda kernel: kernel.name)
def test_a_wave_of_rows_reads_what_they_share_once(kernel, at_once):
    classes = np.random.default_rng(at_once).integers(0, 3, (40, 30)) * (
        np.random.default_rng(1).random((40, 30)) < 0.2
    )
    tiles = block_map(classes, block=(16, 16))
    seen = classes.T if kernel.by_keys else classes[::-1]
    expected = sum(np.count_nonzero(seen[i : i + at_once].any(axis=0)) for i in range(0, len(seen), at_once))
    assert Rows.of(tiles.head_classes[0], tiles, kernel).columns_read(at_once) == 16 * expected


def test_one_long_row_limits_the_whole():
    classes = np.eye(512, dtype=int) * 2
    balanced = predict(block_map(classes), H100)
    classes[300] = 2
    cost = predict(block_map(classes), H100)
    assert cost.limit == "long row" and cost.seconds > 5 * balanced.seconds
    assert predict(dense(16384, 16), H100).limit == "arithmetic"
    assert predict(dense(1024), H100).limit == "few rows"


def test_partial_tiles_cost_more():
    full = predict(dense(4096), H100)
    partial = predict(block_map(np.ones((32, 32), dtype=int)), H100)
    assert 1.2 < partial.seconds / full.seconds < 2


FIGURES = [(512, 323), (1024, 372), (2048, 389), (4096, 389), (8192, 392), (16384, 395)]


@pytest.mark.parametrize(("length", "published"), FIGURES)
def test_published_rates_of_dense_attention(length, published):
    """FlashAttention-3, figure 5: Triton's kernel on the H100, 16,384 tokens in all, 16 heads of 128 dims.

    Only the last of them went into the model.
    """
    cost = predict(dense(length, 16), H100, head_dim=128, batch=16384 // length)
    assert cost.flops / cost.seconds / 1e12 == pytest.approx(published, rel=0.1)


LINE = "na1", {"n": 32768, "kernel": 2048}, [1, 256]
IMAGE = "na2", {"h": 256, "w": 256, "kernel": (80, 80)}, [(1, 1), (16, 16)]
VIDEO = "na3", {"t": 30, "h": 48, "w": 80, "kernel": (18, 24, 24)}, [(1, 1, 1), (16, 8, 8)]
NATTEN = [
    (H100, 1, LINE, "declared", (128, 128), 0.787, (0.0948, 0.0627)),
    (B200, 1, LINE, "declared", (256, 128), 0.425, (0.0581, 0.0379)),
    (H100, 24, IMAGE, "by y // 16, x // 8", (128, 128), 97.435, (16.201, 7.914)),
    (B200, 24, IMAGE, "by y // 16, x // 16", (256, 128), 43.313, (8.692, 4.114)),
    (H100, 24, VIDEO, "by t // 2, y // 8, x // 8", (128, 128), 283.327, (79.043, 23.359)),
    (B200, 24, VIDEO, "by t // 4, y // 8, x // 8, t % 4 // 2", (256, 128), 135.265, (42.243, 13.010)),
]


def all_partial(tiles):
    """The same tiles, none of them full."""
    head_classes = tuple(
        TileMap(Runs.of_dense(classes < 0), Runs.of_dense(classes > 0))
        for classes in (each.classes(tiles.key_blocks) for each in tiles.head_classes)
    )
    return replace(tiles, head_classes=head_classes)


@pytest.mark.parametrize(("device", "heads", "windows", "order", "block", "dense_time", "times"), NATTEN)
def test_published_times_of_windows(device, heads, windows, order, block, dense_time, times):
    """Neighbourhoods without and with a stride against dense attention, in milliseconds, of heads of 128 dims.

    NATTEN 0.21, docs/profiler.md, kernels alone; the fraction of the peak is that of its dense attention. Its kernels
    mask all tiles where one of them needs it. Its strided windows over images on the H100 are faster than their pairs
    allow, because that dense attention, cuDNN's, is slower; a kernel of 0.04 ms is slower, because it has just begun.
    """
    name, parameters, strides = windows
    pattern = maskdsl.load("examples/vision/neighborhood.attn")[name]
    for stride, measured in zip(strides, times, strict=True):
        tiles = pattern.bind(heads=heads, order=order, stride=stride, **parameters).tiles(block)
        flops = 4 * 128 * heads * tiles.query_length**2
        like_dense = replace(device, forward_fraction=flops / (dense_time * 1e-3) / device.matrix_flops)
        masked = all_partial(tiles) if stride == strides[0] else tiles
        found = predict(masked, like_dense, head_dim=128).seconds * 1e3
        print(f"{device.name} {name} stride {stride}: {found:.3g} ms predicted, {measured:.3g} ms measured")
        assert found == pytest.approx(measured, rel=0.22)


def test_a_million_tokens_in_milliseconds():
    rows = np.arange(8192, dtype=np.int32)
    start, end = np.maximum(rows - 4, 0), np.minimum(rows + 5, 8192)
    empty = Runs.of_sorted(8192, rows[:0], rows[:0], rows[:0])
    tiles = TileMap(Runs.of_sorted(8192, rows, start, end), empty)
    window = BlockMap((128, 128), 1 << 20, 1 << 20, (tiles,), np.zeros((1, 8), dtype=np.int32))
    times = []
    for _ in range(3):
        began = process_time()
        predict(window, H100)
        times.append(process_time() - began)
    assert min(times) < 0.05

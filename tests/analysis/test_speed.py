"""The work follows the size of the answer. Bounds are generous: benchmarks hold the real ones."""

import time
import tracemalloc
from dataclasses import replace

import numpy as np

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.expressions import Coordinate, Side, apply
from maskdsl.ir.ops import Op, Type
from tests.support.masks import both, c, causal, declared, grid, k, mask, q, tokens, within
from tests.support.masks import given as given_coordinate

MILLION = 1 << 20


def seconds(pattern, inputs=None):
    """The best of three, in process time, which others' work does not lengthen."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        tiles(pattern, inputs=inputs)
        times.append(time.process_time() - begin)
    return min(times)


def documents(length):
    starts = np.random.default_rng(0).random(length) < 1 / 1600
    same = apply(Op.EQUAL, q("document"), k("document"))
    inputs = [declared("document", Type.INT, tokens=length)]
    pattern = mask(both(causal(), same), tokens(length, given_coordinate("document")), inputs=inputs)
    return pattern, {"document": np.cumsum(starts, dtype=np.int32)}


def test_a_window_over_a_million_tokens():
    assert seconds(mask(within(256), tokens(MILLION))) < 1


def test_packed_documents_over_a_million_tokens():
    assert seconds(*documents(MILLION)) < 1


def test_time_grows_with_the_answer():
    assert seconds(mask(within(256), tokens(MILLION))) < 30 * seconds(mask(within(256), tokens(MILLION // 8)))


def test_a_neighbourhood_in_tiles():
    order = (
        tuple(apply(Op.FLOOR_DIVIDE, Coordinate(Side.TOKEN, name), c(size)) for name, size in (("y", 16), ("x", 8))),
    )
    assert seconds(mask(both(within(16, "y"), within(16, "x")), replace(grid(512, 512), order=order))) < 2


def test_memory_stays_small():
    pattern = mask(within(256), tokens(MILLION))
    tracemalloc.start()
    tiles(pattern)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200e6

"""Figures of published patterns that are sparsity: pairs, tiles and the speed-up that they allow. All from exact tiles.

The bound of the speed-up is that of the simulator of Hassani et al. 2025, "Generalized Neighborhood Attention": all
pairs over those of the tiles of queries and keys that have any pair to compute, tokens being laid out in tiles of
several axes. Where an axis is no multiple of its tile, that simulator fills it up with tokens of no use, and counts
them; here tokens are sorted and nothing is filled up, so some blocks of tokens straddle two tiles.
"""

from itertools import product
from math import prod
from pathlib import Path

import numpy as np
import pytest

import maskdsl

EXAMPLES = Path(__file__).parents[2] / "examples"


def figures(file, name, block=(128, 128), order=None, **parameters):
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(order=order, **parameters)
    return mask.stats(block).total


def starts(length, kernel, stride):
    """The first key of every query of one axis, as NATTEN has it."""
    leader = np.minimum(np.arange(length) // stride * stride + stride // 2, length - 1)
    return np.clip(leader - kernel // 2, 0, length - kernel)


def visited(length, kernel, stride, query_tile, key_tile):
    """Pairs of tiles of one axis that have a pair to compute, written a second time."""
    found = set()
    for query, start in enumerate(starts(length, kernel, stride)):
        found |= {
            (query // query_tile, tile) for tile in range(start // key_tile, (start + kernel - 1) // key_tile + 1)
        }
    return len(found)


def simulated_bound(lengths, kernel, stride, query_tile, key_tile):
    """All pairs over those of visited tiles, whose axes are filled up."""
    tiles = prod(visited(*axis) for axis in zip(lengths, kernel, stride, query_tile, key_tile, strict=True))
    return prod(lengths) ** 2 / (tiles * prod(query_tile) * prod(key_tile))


HUNYUAN = (30, 48, 80), (18, 24, 24)
COSMOS = (16, 44, 80), (16, 32, 48)
FLUX = (256, 256), (80, 80)
GNA = [
    # windows, stride, tiles of queries and keys, an order whose blocks are both, published bound; that of stride 1
    (HUNYUAN, (16, 8, 8), (2, 8, 8), (2, 8, 8), "t // 2, y // 8, x // 8", 11.11, 5.44),
    (FLUX, (16, 16), (16, 16), (16, 8), "y // 16, x // 16, x % 16 // 8", 10.24, 7.06),
    (FLUX, (16, 16), (16, 16), (8, 16), "y // 16, x // 16, y % 16 // 8", 10.24, 7.06),
    (FLUX, (16, 16), (16, 8), (16, 8), "y // 16, x // 8", 10.24, 7.51),
    (COSMOS, (1, 8, 16), (4, 4, 8), (4, 4, 8), "t // 4, y // 4, x // 8", 2.29, 2.08),
    (COSMOS, (1, 8, 16), (8, 4, 4), (8, 4, 4), "t // 8, y // 4, x // 4", 2.29, 2.145),
]


@pytest.mark.parametrize(("windows", "stride", "query_tile", "key_tile", "order", "published", "sliding"), GNA)
def test_strided_windows_are_perfectly_block_sparse(windows, stride, query_tile, key_tile, order, published, sliding):
    """And the same windows that slide by one token pay for partial tiles.

    Hunyuan: Q and KV tiles of 128. FLUX: 256 queries by 128 keys on Blackwell, 128 by 128 on Hopper (NATTEN 0.21,
    docs/profiler.md). Cosmos: 44 is a multiple of 4, so tiles of 4 rows lose nothing.
    """
    (lengths, kernel), one = windows, (1,) * len(stride)
    names = dict(zip("thw"[-len(lengths) :], lengths, strict=True))
    block = prod(query_tile), prod(key_tile)
    bounds = {}
    for each in (stride, one):
        found = figures(
            "vision/neighborhood", f"na{len(lengths)}", block, f"by {order}", kernel=kernel, stride=each, **names
        )
        bounds[each] = found.speedup_bound
        assert (found.partial_tiles == 0) == (each == stride)
        assert found.speedup_bound == pytest.approx(simulated_bound(lengths, kernel, each, query_tile, key_tile))
        assert found.ideal_speedup == pytest.approx(published, rel=0.002)
    print(f"{lengths} by {kernel}: {bounds[stride]:.2f} with stride {stride}, {bounds[one]:.2f} with stride 1")
    assert bounds[stride] == pytest.approx(published, rel=0.002)
    assert bounds[one] == pytest.approx(sliding, rel=0.003) and bounds[one] < bounds[stride]


def test_an_axis_that_its_tile_does_not_divide():
    """Cosmos in the tiles of Hunyuan: 44 is no multiple of 8. Of 2.29, 2.08 is left, or 1.93 with stride 1.

    The simulator fills 44 up to 48, and computes the filling: 1.80 and 1.69. Sorted tokens have no filling; what they
    lose is that blocks behind a short tile are of two tiles each. The window of the last rows starts at 12, no tile's
    first row, so there are partial tiles either way.
    """
    order, (lengths, kernel), tile = "by t // 2, y // 8, x // 8", COSMOS, (2, 8, 8)
    for stride, ours, theirs in [((1, 8, 16), 2.079, 1.801), ((1, 1, 1), 1.930, 1.688)]:
        found = figures("vision/neighborhood", "na3", (128, 128), order, t=16, h=44, w=80, kernel=kernel, stride=stride)
        assert found.partial_tiles > 0 and found.ideal_speedup == pytest.approx(2.292, rel=0.001)
        assert found.speedup_bound == pytest.approx(ours, rel=0.001)
        assert simulated_bound(lengths, kernel, stride, tile, tile) == pytest.approx(theirs, rel=0.001)


@pytest.mark.parametrize(("name", "published"), [("hunyuan", 11.11), ("cosmos", 2.29)])
def test_windows_of_video_models_lose_nothing_to_tiles(name, published):
    found = figures("video/video_gna", name)
    assert found.partial_tiles == 0 and found.speedup_bound == pytest.approx(published, rel=0.002)


PREDICT2 = [
    # kernel, dilation, stride, order, published sparsity in percent
    ((24, 4, 16), (1, 11, 5), (1, 1, 1), "y % 11, x % 5", 98),
    ((24, 12, 16), (1, 1, 5), (1, 4, 1), "x % 5, y // 4", 95),
    ((24, 12, 24), (1, 1, 1), (1, 4, 8), "t // 4, y // 4, x // 8", 92),
    ((24, 20, 40), (1, 1, 1), (1, 4, 8), "t // 4, y // 4, x // 8", 77),
    ((24, 28, 56), (1, 1, 1), (1, 4, 8), "t // 4, y // 4, x // 8", 55),
]


@pytest.mark.parametrize(("kernel", "dilation", "stride", "order", "published"), PREDICT2)
def test_windows_of_cosmos_predict2_are_fully_block_sparse(kernel, dilation, stride, order, published):
    """The layers of its Video2World models at 44 x 80, all of 24 frames: "highly or fully block-sparse", how much.

    Source: nvidia-cosmos/cosmos-predict2, the table of neighbourhood parameters and the comments above it.
    """
    chosen = {"kernel": kernel, "dilation": dilation, "stride": stride}
    found = figures("vision/neighborhood", "na3", (128, 128), f"by {order}", t=24, h=44, w=80, **chosen)
    assert found.partial_tiles == 0 and found.waste == 0
    assert 100 * (1 - found.density) == pytest.approx(published, abs=0.6)


@pytest.mark.parametrize(("window", "published"), [(3, 1.56), (5, 7.23)])
def test_sliding_tiles_have_full_tiles_only(window, published):
    """Zhang et al. 2025, "Fast Video Generation with Sliding Tile Attention", table 1: 48 x 48 x 48 in tiles of 4."""
    sizes = {"t": 48, "h": 48, "w": 48, "tile": (4, 4, 4), "window": (window,) * 3, "text": 0}
    found = figures("video/sliding_tile", "sliding_tile", (64, 64), **sizes)
    assert found.partial_tiles == 0 and 100 * found.block_density == pytest.approx(published, abs=0.005)


def test_sliding_windows_have_hardly_any():
    """The same table for a window of 11 x 11 x 11 in these tiles: 0.06 % full, 7.17 % partial.

    It counts what a block of queries far from all borders has: 1 and 124 of 1,728. At the borders, where windows are
    moved inward, blocks have fewer partial tiles and more full ones, so that all together have 0.09 % and 5.18 %.
    """
    pattern = maskdsl.load(EXAMPLES / "vision/neighborhood.attn")["na3"]
    mask = pattern.bind(t=48, h=48, w=48, kernel=(11, 11, 11), order="by t // 4, y // 4, x // 4")
    tiles = mask.tiles((64, 64))
    inner, (head_class,) = (6 * 12 + 6) * 12 + 6, tiles.head_classes
    counts = np.array([head_class.full.counts[inner], head_class.partial.counts[inner]])
    assert (100 * counts / tiles.key_blocks).round(3).tolist() == [0.058, 7.176]
    total = np.array([head_class.full.count, head_class.partial.count])
    assert (100 * total / tiles.key_blocks / tiles.query_blocks).round(2).tolist() == [0.09, 5.18]


@pytest.mark.parametrize(("window", "published"), [((3, 3, 3), 91.00), ((5, 5, 5), 58.33)])
def test_windows_of_sliding_tiles_in_hunyuan_video(window, published):
    """The same paper: windows of 18 x 24 x 24 and 30 x 40 x 40 tokens, sparsity in percent."""
    found = figures("video/sliding_tile", "sliding_tile", (384, 384), window=window, text=0)
    assert found.partial_tiles == 0 and 100 * (1 - found.density) == pytest.approx(published, abs=0.005)


@pytest.mark.long
def test_clear_cuts_more_than_99_and_a_half_percent():
    """Liu et al. 2024: an image of 8 Ki, 512 x 512 latent tokens, radius 16, without text."""
    offsets = np.arange(-16, 17)
    expected = sum((512 - abs(y)) * (512 - abs(x)) for y, x in product(offsets, offsets) if y**2 + x**2 < 16**2)
    found = figures("vision/clear", "clear", text=0, h=512, w=512, radius=16)
    assert found.attended == expected
    assert 1 - found.density == pytest.approx(0.99706, abs=1e-5)
    assert 20 < found.speedup_bound < found.ideal_speedup


def radial_pairs(frames, tokens, sink, decay, block=128):
    """Pairs of Radial attention without text, frame by frame: the rule of its code, written a second time."""
    power = 2 ** tokens.bit_length()
    total = 0
    for query, key in product(range(frames), range(frames)):
        bits = abs(query - key).bit_length()
        sparse = power < block * 2**bits
        if bits <= 1 or (key == 0 and sink):
            total += tokens**2
        elif not sparse or (query - key) % (block * 2**bits // power) == 0:
            width = min(int(max(decay * power / 2**bits, block)), tokens - 1)
            total += tokens * (2 * width + 1) - width * (width + 1)
    return total


FRAMES = (16, 24, 32, 48, 64, 96, 128)


@pytest.mark.parametrize(
    ("tokens", "sink", "decay", "slope"), [(1560, True, 0.2, 3540), (3600, False, 0.95, 7390)], ids=["wan", "hunyuan"]
)
def test_radial_attention_computes_n_log_n_pairs(tokens, sink, decay, slope):
    """Li et al. 2025: frames of 1,560 tokens (Wan 2.1, 480p) and 3,600 (HunyuanVideo, 720p), 16 to 128 of them.

    Each doubling of the frames adds as many keys a query: keys are a straight line over the logarithm of the frames, to
    1.2 % of the most.
    """
    values = {"frames": 16, "tokens_per_frame": tokens, "text": 0, "sink": sink, "decay": decay}
    assert figures("video/radial", "radial", **values).attended == radial_pairs(16, tokens, sink, decay)
    pairs = np.array([radial_pairs(frames, tokens, sink, decay) for frames in FRAMES])
    length = np.array(FRAMES) * tokens
    keys = pairs / length
    rise, start = np.polyfit(np.log2(FRAMES), keys, 1)
    exponent, _ = np.polyfit(np.log(length), np.log(pairs), 1)
    print(f"{tokens} a frame: {start:.0f} + {rise:.0f} log2(frames) keys a query; pairs as n ** {exponent:.2f}")
    assert rise == pytest.approx(slope, rel=0.02)
    assert np.abs(start + rise * np.log2(FRAMES) - keys).max() < 0.012 * keys.max()
    assert 1 < exponent < 1.4 and 1 - pairs[-1] / length[-1] ** 2 > 0.88


ORDERS = [
    ("declared", 0.875, 0.875),
    ("by y // 16, x // 16", 0.0, 0.0),
    ("by y // 8, x // 16", 0.0, 0.5),
    ("by hilbert(y, x)", 0.0, 0.0),
]


@pytest.mark.parametrize(("order", "waste", "waste_of_256"), ORDERS)
def test_waste_of_local_windows_by_layout(order, waste, waste_of_256):
    """Scale-DiT's windows of 16 x 16 in 128 x 128 tokens, without text and guide: 7 of 8 pairs computed are wasted in
    rows, none along a Hilbert curve, at any block; tiles of another shape than the window serve some blocks only.
    """
    for block, expected in (128, waste), (256, waste_of_256):
        found = figures("vision/maxvit", "block", (block, block), order, h=128, w=128, size=16)
        assert found.waste == expected and found.ideal_speedup == 64
        print(f"{order}, block {block}: {100 * found.waste:.1f} % wasted, speed-up at most {found.speedup_bound:.1f}")

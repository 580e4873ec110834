"""What papers say about how far information travels, reproduced from the examples."""

from math import comb
from pathlib import Path

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.reach.bit_rows import spread
from maskdsl.analysis.reach.hops import find_layer

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(file, name):
    return maskdsl.load(EXAMPLES / f"{file}.attn").everything[name]


def test_power_attention_doubles_its_reach_with_every_layer():
    """After d layers the nearest 2 ** d tokens are reached, and exactly 2 ** (d + 1) - 1 without a gap: the distances
    that are sums of d powers of two. The paper counts the former.
    """
    found = load("language/power", "power").bind(n=4096, block=1, local=1, sinks=0).field(token=4095)
    for layers in range(13):
        before, behind = found.draws.unbroken(layers)
        assert (before + 1, behind) == (min(2 ** (layers + 1) - 1, 4096), 0) and before + 1 >= 2**layers
        reached = sum(comb(12, powers) for powers in range(layers + 1))
        assert found.draws.count(layers) == (reached, reached)
    assert found.exact and found.connections.layers == 12


@pytest.mark.parametrize(
    "size", [3, pytest.param(4, marks=pytest.mark.long), pytest.param(65, marks=pytest.mark.long), 512]
)
def test_a_window_grows_linearly(size):
    text = "pattern p(n, size) { space tokens[n] attend window(size) }"
    found = maskdsl.parse(text)["p"].bind(n=4096, size=size).field(token=2000, layers=12)
    for layers in range(13):
        reach = 1 + layers * (size // 2)
        expected = min(reach, 2001), min(reach, 2096)
        assert tuple(side + 1 for side in found.draws.unbroken(layers)) == expected
        assert found.draws.count(layers) == (sum(expected) - 1,) * 2
    backward = load("language/sliding_window", "sliding_window").bind(n=4096, size=size).field(token=4095, layers=12)
    for layers in range(13):
        assert backward.draws.unbroken(layers) == (min(layers * (size - 1), 4095), 0)


@pytest.mark.long
def test_stochastic_attention_covers_everything_in_few_layers():
    """log n / log size layers, rounded up: 2 would only do if no token were reached twice."""
    pattern = load("language/stochastic", "stochastic")
    layers = [find_layer(pattern.bind(n=4096, size=65, seed=seed).ir, 1, {}).all for seed in range(60)]
    random = np.random.default_rng(0)
    draws = [random.choice(60, 3, replace=False) for _ in range(100)]
    needed = [spread([layers[number] for number in draw], 4096, reflexive=True).layers for draw in draws]
    assert sum(each <= 3 for each in needed) >= 95 and min(needed) == 3


@pytest.mark.parametrize("n", [200, 777, 4096])
def test_global_tokens_make_paths_of_two_hops(n):
    for name, values in ("longformer", {"size": 32}), ("bigbird", {"block": 16}):
        found = load(f"language/{name}", name).bind(n=n, **values).field().connections
        assert (found.everything, found.layers, len(found.path)) == (True, 2, 3)


@pytest.mark.parametrize(
    ("h", "w", "size"), [(49, 49, 7), (14, 49, 7), (8, 16, 4), (56, 56, 8), (56, 56, 7), (16, 20, 4), (10, 5, 5)]
)
def test_maxvit_reaches_everything_in_two_layers(h, w, size):
    """If and only if the square of the window is as long as the image."""
    found = load("vision/maxvit", "maxvit").bind(h=h, w=w, size=size).field().connections
    assert (found.everything and found.layers == 2) == (size**2 >= max(h, w))


@pytest.mark.parametrize(("h", "w", "size"), [(14, 21, 7), (28, 28, 7), (16, 12, 4)])
def test_swin_needs_its_shift(h, w, size):
    windows = h // size * w // size
    never = load("vision/swin", "swin").bind(h=h, w=w, size=size, shift=0).field().connections
    assert (never.components.weak, never.components.largest_weak) == (windows, size**2)
    total = h * w * (h * w - 1) // 2
    assert never.never == total - windows * size**2 * (size**2 - 1) // 2
    pair = load("vision/swin", "swin_pair").bind(h=h, w=w, size=size).field().connections
    assert pair.everything and pair.never == 0


def test_dilation_makes_growth_exponential():
    """Dilated by powers of the kernel; alternating layers multiply their reach, those without dilation add it."""
    growing = load("vision/neighborhood", "na1_growing").bind(n=4096, kernel=5, layers=5).field(token=2048, layers=5)
    assert [growing.draws.count(layers)[0] for layers in range(6)] == [1, 5, 25, 125, 625, 3125]
    plain = load("vision/neighborhood", "na1").bind(n=4096, kernel=5).field(token=2048, layers=5)
    assert [plain.draws.count(layers)[0] for layers in range(6)] == [1, 5, 9, 13, 17, 21]
    dinat = load("vision/dinat", "dinat_pair").bind(h=60, w=60, kernel=5, dilation=5)
    assert [dinat.field(layers=2).draws.count(layers)[0] for layers in range(3)] == [1, 5**2, 5**4]
    near = load("vision/dinat", "dinat").bind(h=60, w=60, kernel=5, dilation=1).field(layers=2)
    assert near.draws.count(2)[0] == 9**2


def test_short_and_long_distance_reach_everything_together():
    """Windows and grids of any lengths that divide the image, if a window has one of each place of the grid."""
    for interval in (6, 7, 8):
        values = {"h": 42 if interval < 8 else 56, "w": 42 if interval < 8 else 56, "group": 7, "interval": interval}
        found = load("vision/crossformer", "crossformer").bind(**values).field().connections
        assert (found.layers == 2) == (interval <= 7) and found.everything
    apart = load("vision/crossformer", "short").bind(h=42, w=42).field().connections
    assert apart.everything is False and apart.components.weak == 36

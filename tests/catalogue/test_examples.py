"""What is asked of single examples, and of all, beside their pairs (`test_sources.py`)."""

from pathlib import Path

import numpy as np

import maskdsl

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_stochastic_attention_is_laid_out_by_its_permutation() -> None:
    """So that its window is a band of tiles."""
    mask = maskdsl.load(EXAMPLES / "language/stochastic.attn")["stochastic"].bind(n=512, size=65, seed=0)
    tiles = mask.tiles((64, 64))
    assert tiles.partial_count() + tiles.full_count() < 64 * 0.4


def test_hilbert_window_follows_the_curve() -> None:
    """Along the curve every token has its neighbours: the relation is a band when laid out, whatever the curve."""
    mask = maskdsl.load(EXAMPLES / "vision/hilbert_window.attn")["hilbert_window"].bind(h=8, w=8, size=5)
    keys = mask.dense().sum(axis=1)
    assert sorted(keys) == sorted([3, 4, *[5] * 60, 4, 3])
    tiles = mask.tiles(block=(8, 8)).classes()
    rows, columns = np.nonzero(tiles)
    assert abs(rows - columns).max() == 1


def test_every_example_binds_at_its_defaults_and_is_documented() -> None:
    files = sorted(EXAMPLES.rglob("*.attn"))
    assert len(files) >= 20
    for file in files:
        module = maskdsl.load(file)
        for name in module:
            pattern = module[name]
            assert "Source:" in pattern.doc or len(module) > 1, f"{file.name}: {name} says no source"
            assert pattern.doc, f"{file.name}: {name} has no description"
            pattern.bind(heads=4)

"""What is asked of single examples, and of all, beside their pairs (`test_sources.py`)."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

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


@pytest.mark.parametrize(("n", "block", "levels"), [(45, 16, 4), (37, 8, 2), (3, 5, 3)])
def test_pyramid_reads_each_block_at_its_level(n: int, block: int, levels: int) -> None:
    """Attention written out over the means that each query is given, with the logarithms of what they stand for."""
    mask = maskdsl.load(EXAMPLES / "routing/pyramid.attn")["pyramid"].bind(n=n, block=block, levels=levels, heads=2)
    chunks = -(-n // block)
    level = np.random.default_rng(0).integers(-1, levels, (2, chunks, chunks))
    q, k, v = (torch.randn(1, 2, n, 8, dtype=torch.float64) for _ in range(3))
    out, lse = mask.compile("tiled")(q, k, v, level=torch.tensor(level), return_lse=True)
    for head, query in product(range(2), range(n)):
        scores, values = [], []
        for at, size in ((at, 2**each) for each in range(levels) for at in range(0, n, 2**each)):
            if 2.0 ** level[head, query // block, at // block] == size:
                tokens = slice(at, min(at + size, n))
                scores.append(q[0, head, query] @ k[0, head, tokens].mean(0) / 8**0.5 + np.log(min(size, n - at)))
                values.append(v[0, head, tokens].mean(0))
        if not scores:
            assert lse[0, head, query] == -torch.inf and not out[0, head, query].any()
            continue
        stacked = torch.stack(scores)
        torch.testing.assert_close(lse[0, head, query], stacked.logsumexp(0))
        torch.testing.assert_close(out[0, head, query], stacked.softmax(0) @ torch.stack(values))


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

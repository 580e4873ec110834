"""Heads with the same expression share one map, and all that is made of it: nothing is kept twice."""

from pathlib import Path

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.analysis.tiles.mask_tiles import tiles_with_pairs
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.backends.programs import Calls, column_programs, row_programs
from maskdsl.runtime.backends.tiled_backend import Schedules

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = [
    ("language/longlora", "longlora", {"n": 200, "group": 64}, 2),
    ("language/sink_lora", "sink_lora", {"n": 200, "group": 64, "sinks": 2}, 2),
    ("language/s2", "s2", {"n": 200, "block": 8, "local": 2, "stride": 4}, 4),
    ("vision/cswin", "cswin", {"h": 14, "w": 13, "stripe": 3}, 2),
    ("vision/style_swin", "style_swin", {"h": 14, "w": 13, "size": 4}, 2),
    ("vision/condaformer", "planes", {"t": 3, "h": 7, "w": 9, "size": 3}, 3),
    ("video/spatial_temporal", "svg", {"frames": 3, "places": 63, "width": 40, "temporal_heads": 1}, 2),
]


@pytest.mark.parametrize(("file", "pattern", "values", "different"), CASES, ids=[case[1] for case in CASES])
def test_nothing_is_kept_twice(file: str, pattern: str, values: dict[str, int], different: int) -> None:
    """Many heads have the maps, the lists for kernels and the schedules that as many heads have as there are rules."""
    (few, _), (many, pairs) = (
        tiles_with_pairs(maskdsl.load(EXAMPLES / f"{file}.attn")[pattern].bind(**values, heads=heads).ir, (16, 16))
        for heads in (different, 4 * different)
    )
    assert len(many.head_classes) == len(set(many.class_of_head.ravel().tolist())) == different
    assert all(one == other for one, other in zip(few.head_classes, many.head_classes, strict=True))
    for programs in (row_programs, column_programs):
        one, other = (
            programs(each, Calls(1, heads, heads, 132, False))
            for each, heads in ((few, different), (many, 4 * different))
        )
        assert np.array_equal(one.full_runs, other.full_runs) and np.array_equal(one.partial_runs, other.partial_runs)
    schedules = Schedules(many, pairs)
    assert len(schedules.groups) == different
    work, _ = schedules.work(2, 4 * different, 4 * different)
    assert [groups for groups, _ in work] == list(schedules.groups)
    assert sum(len(queries) for _, units in work for queries, _ in units) == 2 * 4 * different


def test_gradients_of_heads_that_share_keys_in_orders_of_their_own() -> None:
    text = "pattern p(n) { space t[n]  attend causal and backward(9)  order by -i if head % 2 == 0 else i % 3 }"
    mask = maskdsl.parse(text)["p"].bind(n=40, heads=4)
    for dtype in (torch.float64, torch.float32):
        leaves = [torch.randn(2, heads, 40, 8, dtype=dtype, requires_grad=True) for heads in (4, 2, 2)]
        grads = [
            torch.autograd.grad(mask.compile(backend)(*leaves).sin().sum(), leaves) for backend in usable_backends()
        ]
        for each in grads[1:]:
            torch.testing.assert_close(each, grads[0])

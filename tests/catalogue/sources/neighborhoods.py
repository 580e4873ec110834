"""Neighbourhood attention: generalised, dilated, causal."""

from functools import reduce
from typing import Any

import numpy as np

from tests.catalogue.compared import Attends

Each = int | tuple[int, ...]


def window(index: int, kernel: int, stride: int, length: int, causal: bool) -> range:
    """The positions that are attended from a position, both inside of one dilation group of that length."""
    left, right = kernel // 2, kernel // 2 + kernel % 2 - 1
    if causal:
        leader = min(index // stride * stride + stride - 1, length - 1)
        return range(max(leader - left - right, 0), min(index + 1, length))
    leader = min(index // stride * stride + stride // 2, length - 1)
    beyond = length - right - leader - 1 if leader + right >= length else 0
    start = max(leader - left, 0) + beyond
    return range(start, start + kernel)


def axis(length: int, kernel: int, dilation: int, stride: int, causal: bool) -> np.ndarray:
    """[queries, keys] along one axis."""
    attends = np.zeros((length, length), bool)
    for query in range(length):
        place, group = divmod(query, dilation)
        members = length // dilation + 1 - (group + dilation - length % dilation) // dilation
        for key in range(group, length, dilation):
            attends[query, key] = key // dilation in window(place, kernel, stride, members, causal)
    return attends


def natten(lengths: list[int], kernel: Each, dilation: Each, stride: Each, causal: tuple[bool, ...]) -> np.ndarray:
    """[queries, keys] over all axes; one number serves every axis."""
    sizes = [each if isinstance(each, tuple) else (each,) * len(lengths) for each in (kernel, dilation, stride)]
    return reduce(np.kron, (axis(*each) for each in zip(lengths, *sizes, causal, strict=True)))


def na(heads: int, kernel: Each, dilation: Each = 1, stride: Each = 1, **lengths: int) -> np.ndarray:
    """Released code: SHI-Labs/NATTEN, csrc/include/natten/cuda/reference/mask.hpp, 8c8729f."""
    return natten([*lengths.values()], kernel, dilation, stride, (False,) * len(lengths))


def na_causal(heads: int, kernel: Each, dilation: Each = 1, stride: Each = 1, **lengths: int) -> np.ndarray:
    """Released code: SHI-Labs/NATTEN, csrc/include/natten/cuda/reference/mask.hpp, 8c8729f.

    Causal along the first axis.
    """
    return natten([*lengths.values()], kernel, dilation, stride, (True, *(False,) * (len(lengths) - 1)))


def a2mamba(heads: int, h: int, w: int, kernel: int) -> np.ndarray:
    """Released code: LMMMEng/A2Mamba, models/a2mamba.py, a9ea14c.

    Halves of the heads; the dilations of the second are as many windows as fit into the axes, and at most `kernel`.
    """
    dilation = (min(int(h / kernel), kernel), min(int(w / kernel), kernel))
    halves = [natten([h, w], kernel, each, 1, (False, False)) for each in (1, dilation)]
    return np.repeat(halves, heads // 2, axis=0)


def row(pattern: str, **values: Any) -> Attends:
    return Attends("vision/neighborhood", pattern, values, na_causal if "causal" in pattern else na)


ROWS = [
    row("na1", n=37, kernel=7, dilation=1, stride=1),
    row("na1", n=37, kernel=6, dilation=3, stride=2),
    row("na1", n=5, kernel=7, dilation=2, stride=1),
    row("na1", n=29, kernel=9, dilation=3, stride=9),
    row("na1_causal", n=37, kernel=6, dilation=3, stride=2),
    row("na1_causal", n=23, kernel=5, dilation=1, stride=4),
    row("na2", h=9, w=11, kernel=(3, 4), dilation=(2, 1), stride=(1, 3)),
    row("na2", h=13, w=8, kernel=(5, 8), dilation=(2, 1), stride=(4, 1)),
    row("na3", t=1, h=7, w=6, kernel=(1, 3, 4), dilation=(1, 2, 1), stride=(1, 1, 2)),
    row("na3", t=5, h=4, w=6, kernel=(3, 2, 3), dilation=(1, 2, 2), stride=(2, 2, 1)),
    row("na3_causal", t=4, h=5, w=4, kernel=(2, 3, 3)),
    row("na3_causal", t=6, h=3, w=5, kernel=(3, 3, 2)),
    Attends("vision/dinat", "dinat", {"h": 12, "w": 17, "kernel": (3, 5), "dilation": (4, 3)}, na),
    Attends("vision/a2mamba", "a2mamba", {"h": 9, "w": 14, "kernel": 3}, a2mamba, heads=4),
    Attends("vision/a2mamba", "a2mamba", {"h": 11, "w": 6, "kernel": 5}, a2mamba, heads=2),
]

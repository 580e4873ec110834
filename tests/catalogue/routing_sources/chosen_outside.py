"""What no query chooses: groups that have passed, tokens that are drawn, layers that a router of its own picks."""

from itertools import product

import numpy as np

from tests.catalogue.compared import Attends
from tests.support.dropout import words


def core_context(heads: int, n: int, group: int, size: int) -> np.ndarray:
    """No public code: the paper's text.

    Positions count from 1. Query i sees the first j = max(0, (i - size) // group) core tokens, and those that these do
    not stand for, `size + (i - size) % group`, as the paper counts them. Its first index of them has one more.
    """
    i, k = np.arange(1, n + 1)[:, None], np.arange(1, n + 1)
    seen = np.maximum(0, (i - size) // group)
    local = (k > i - size - (i - size) % group) & (k <= i)
    return np.concatenate([local, np.arange(1, -(-n // group) + 1) <= seen], axis=1)


def drawn(t: int, h: int, w: int, window_t: int, window_h: int, window_w: int, seed: int) -> np.ndarray:
    """bool [tokens]: one token of each window, which are cut at the borders."""
    place = np.arange(t * h * w).reshape(t, h, w)
    sizes = window_t, window_h, window_w
    chosen = np.zeros(t * h * w, bool)
    for window in product(*(range(-(-length // size)) for length, size in zip((t, h, w), sizes, strict=True))):
        inside = place[tuple(slice(at * size, (at + 1) * size) for at, size in zip(window, sizes, strict=True))].ravel()
        chosen[inside[int(words(seed, *window)) % len(inside)]] = True
    return chosen


def proxy_tokens(heads: int, **values: int) -> np.ndarray:
    """No public code: the paper's text.

    Of its first version; the released model has means in their place. How tokens are drawn is ours.
    """
    chosen = drawn(**values)
    return chosen[:, None] & chosen


def proxy_broadcast(heads: int, **values: int) -> np.ndarray:
    """No public code: the paper's text."""
    chosen = drawn(**values)
    return np.broadcast_to(chosen, (len(chosen), len(chosen)))


def windows(
    heads: int, t: int, h: int, w: int, window_t: int, window_h: int, window_w: int, shifted: bool
) -> np.ndarray:
    """Released code: Ascend/MindSpeed-MM, mindspeed_mm/models/predictor/dits/pt_dit_diffusers.py, 57069cd.

    The video is rolled back by half a window. The last window of an axis then joins both ends, which a mask parts.
    """
    lengths, sizes = (t, h, w), (window_t, window_h, window_w)
    shifts = [size // 2 if shifted else 0 for size in sizes]
    regions = np.zeros(lengths, int)
    borders = [
        [slice(0, -size), slice(-size, -shift or None), slice(-shift, None)]
        for size, shift in zip(sizes, shifts, strict=True)
    ]
    for number, region in enumerate(product(*borders)):
        regions[region] = number
    axes = np.indices(lengths) // np.reshape(sizes, (3, 1, 1, 1))
    place = np.roll(np.arange(t * h * w).reshape(lengths), [-shift for shift in shifts], (0, 1, 2)).ravel()
    attends = np.ones((t * h * w,) * 2, bool)
    for each in (*axes, regions) if shifted else axes:
        rolled = np.empty(t * h * w, int)
        rolled[place] = each.ravel()
        attends &= rolled[:, None] == rolled
    return attends


def window_layer(heads: int, n: int, size: int) -> np.ndarray:
    """Released code: qqtang-code/FluxAttention, fluxattn/training/modeling_flash_qwen.py, 031f22f.

    Sparse layers of `toggle_type="local"`: a causal window of size - 1 keys to the left.
    """
    apart = np.arange(n)[:, None] - np.arange(n)
    return (apart >= 0) & (apart <= size - 1)


VIDEO = {"t": 3, "h": 5, "w": 7, "window_t": 2, "window_h": 4, "window_w": 3}
WHOLE = {"t": 4, "h": 6, "w": 9, "window_t": 2, "window_h": 6, "window_w": 3}

ROWS = [
    Attends("routing/core_context", "core_context", {"n": 53, "group": 4, "size": 9}, core_context),
    Attends("routing/core_context", "core_context", {"n": 21, "group": 5, "size": 1}, core_context),
    Attends("routing/core_context", "core_context", {"n": 7, "group": 9, "size": 3}, core_context),
    Attends("routing/proxy_tokens", "proxy_tokens", {**VIDEO, "seed": 0}, proxy_tokens),
    Attends("routing/proxy_tokens", "proxy_tokens", {**VIDEO, "seed": 5}, proxy_tokens, heads=2),
    Attends("routing/proxy_tokens", "proxy_broadcast", {**VIDEO, "seed": 5}, proxy_broadcast),
    Attends("routing/proxy_tokens", "windows", {**WHOLE, "shifted": True}, windows),
    Attends("routing/proxy_tokens", "windows", {**WHOLE, "window_t": 1, "shifted": True}, windows),
    Attends("routing/proxy_tokens", "windows", {**WHOLE, "shifted": False}, windows),
    Attends("routing/layer_choice", "window_layer", {"n": 37, "size": 9}, window_layer, heads=2),
]

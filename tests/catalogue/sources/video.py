"""Attention of video models: over the tokens of all frames, and among frames at one place."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor

from tests.catalogue.compared import Attends, Computes


def radial(
    heads: int, frames: int, tokens_per_frame: int, block: int, text: int, sink: bool, decay: float
) -> np.ndarray:
    """Released code: mit-han-lab/radial-attention, radial_attn/attn_mask.py, 72788d4.

    The mask of each pair of frames, before it shrinks to blocks. Which frames are left out there follows 128, the size
    of the blocks of all released scripts; here it is `block`.
    """
    size, video = 2 ** tokens_per_frame.bit_length(), frames * tokens_per_frame
    attends = np.zeros((video + text, video + text), bool)
    attends[video:] = attends[:, video:] = True
    rows, columns = np.arange(tokens_per_frame)[:, None], np.arange(tokens_per_frame)
    for i, j in product(range(frames), repeat=2):
        apart = abs(i - j)
        length = size / 2 ** apart.bit_length()
        width = tokens_per_frame if apart <= 1 else max(length * decay, block)
        kept = length >= block or apart % int(block / length) == 0
        pair = (abs(columns - rows) <= width) & kept | (j == 0 and sink)
        attends[i * tokens_per_frame :, j * tokens_per_frame :][:tokens_per_frame, :tokens_per_frame] = pair
    return attends


def svg(heads: int, frames: int, places: int, text: int, width: int, temporal_heads: int, sink: bool) -> np.ndarray:
    """Released code: svg-project/Sparse-VideoGen, svg/models/hyvideo/utils.py, 5ce7b01.

    A band over positions, text behind it; placement.py stores the tokens of temporal heads place by place. The sink is
    that of svg/models/wan/utils.py: the first positions of either order.
    """
    video = frames * places
    q, k = np.arange(video + text)[:, None], np.arange(video + text)
    mask = (abs(q - k) < width) | (q >= video) | (k >= video) | ((k < places) & sink)
    frame, patch = np.divmod(np.arange(video), places)
    stored = np.concatenate([patch * frames + frame, np.arange(video, video + text)])
    return np.stack([mask[np.ix_(stored, stored)] if head < temporal_heads else mask for head in range(heads)])


def paro(heads: int, t: int, h: int, w: int, text: int, size: int, plan: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Released code: jamescsq47/PAROAtten, paroattention/cogvideox.py, 3ac854f.

    The frames, rows and columns behind the text are permuted by the plan of the head; the kernel then skips blocks.
    """
    orders = [(0, 1, 2), (0, 2, 1), (1, 2, 0), (1, 0, 2), (2, 1, 0), (2, 0, 1)]
    length = text + t * h * w
    attends = np.zeros((heads, length, length), bool)
    for head in range(heads):
        permuted = text + np.arange(t * h * w).reshape(t, h, w).transpose(orders[plan[head]]).ravel()
        tokens = np.concatenate([np.arange(text), permuted])
        pairs = keep[head].repeat(size, 0).repeat(size, 1)[:length, :length]
        attends[head][np.ix_(tokens, tokens)] = pairs
    return attends


def sliding_tile(
    heads: int, t: int, h: int, w: int, tile: tuple[int, int, int], window: tuple[int, int, int], text: int
) -> np.ndarray:
    """Released code: hao-ai-lab/FastVideo, fastvideo-kernel/tests/support_flex_sta.py, 2f3d407.

    Tokens come tile by tile there, and text behind them. The middle of a window is clamped half a window from the ends.
    """
    lengths = (t, h, w)
    counts = [length // size for length, size in zip(lengths, tile, strict=True)]
    video, volume = t * h * w, int(np.prod(tile))
    coordinates = np.unravel_index(np.arange(video) // volume, counts)
    near = np.ones((video, video), bool)
    for at, count, size in zip(coordinates, counts, window, strict=True):
        middle = np.minimum(np.maximum(at, size // 2), count - 1 - size // 2)
        near &= abs(middle[:, None] - at) <= size // 2
    sides = [side for pair in zip(counts, tile, strict=True) for side in pair]
    tiled = np.arange(video).reshape(sides).transpose(0, 2, 4, 1, 3, 5).ravel()
    attends = np.ones((video + text, video + text), bool)
    attends[np.ix_(tiled, tiled)] = near
    return attends


def freeswim(heads: int, t: int, h: int, w: int, window: tuple[int, int]) -> np.ndarray:
    """Released code: WillWu111/FreeSwim, nocache/attention_processor_.py, 9f35a72.

    What a window lacks on one side of the image it has more on the other.
    """
    place = np.arange(t * h * w) % (h * w)
    near = np.ones((len(place), len(place)), bool)
    for at, length, size in ((place // w, h, window[0]), (place % w, w, window[1])):
        reach = size // 2
        least = at - reach - np.maximum(reach + at - length + 1, 0)
        most = at + reach + np.maximum(reach - at, 0)
        near &= (least[:, None] <= at) & (at <= most[:, None])
    return near


def strided_neighbourhood(kernel: tuple[int, ...], stride: tuple[int, ...]) -> Callable[..., np.ndarray]:
    """The windows of one of the patterns of `video_gna`."""

    def gna(heads: int, t: int, h: int, w: int) -> np.ndarray:
        """Released code: SHI-Labs/NATTEN, src/natten/backends/flex.py, 8c8729f.

        The mask of one dimension at a time: a window around the leader of each group of queries. Kernels longer than
        their axes, which are refused there, are as long as these.
        """
        attends = np.ones((t * h * w, t * h * w), bool)
        lengths = (t, h, w)
        for at, length, size, step in zip(
            np.unravel_index(np.arange(t * h * w), lengths), lengths, kernel, stride, strict=True
        ):
            size = min(size, length)
            left, right = size // 2, size // 2 + size % 2 - 1
            leader = np.minimum(at // step * step + step // 2, length - 1)
            middle = np.minimum(np.maximum(leader, left), length - 1 - right)[:, None]
            attends &= (middle - left <= at) & (at <= middle + right)
        return attends

    return gna


DRAWN = np.random.default_rng(0)


def freelong(heads: int, t: int, size: int) -> np.ndarray:
    """Released code: aniki-ly/FreeLong, examples/LaVie/freelong/models/attention.py, 3c66750.

    `get_adjusted_local_mask`, frame by frame: a window shorter than `size` grows on its other side.
    """
    attends = np.zeros((t, t), bool)
    for frame in range(t):
        start, end = max(0, frame - size // 2), min(t, frame + size // 2 + 1)
        if end - start < size:
            start, end = (0, min(t, size)) if start == 0 else (max(0, end - size), end)
        attends[frame, start:end] = True
    return attends


def animate(size: int):
    """The windows of `size` frames that end at each query."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """No public code: the paper's text.

        Keys and values of the first frame are repeated in front of the video, so that every window is full.
        """
        padded = [torch.cat([x[:, :, :1].expand(-1, -1, size - 1, -1), x], dim=2) for x in (k, v)]
        keys, values = (x.unfold(2, size, 1).transpose(-1, -2) for x in padded)
        scores = (q[:, :, :, None] @ keys.transpose(-1, -2)).squeeze(3) / math.sqrt(q.shape[-1])
        return (scores.softmax(-1)[:, :, :, None] @ values).squeeze(3)

    return attention


def video_infinity(t: int, padding: int, shared: int, bias: float):
    """One process of it, which has the whole video, in a phase of the sampling that adds `bias` to shared frames."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Released code: Yuanshi9815/Video-Infinity, src/video_infinity/plugins.py, 6f3f02f.

        Keys are padded by zeros at both ends of the video, and the shared frames follow them. The phases add 10 to one
        of both parts.
        """
        picked = torch.arange(0, t, max(t // shared, 1))[:shared]
        keys, values = (
            torch.cat([torch.nn.functional.pad(x, (0, 0, padding, padding)), x[:, :, picked]], dim=2) for x in (k, v)
        )
        mask = torch.ones(t, t + 2 * padding + len(picked), dtype=q.dtype)
        for frame in range(t):
            mask[frame, :frame] = -torch.inf
            mask[frame, frame + 1 + 2 * padding : t + 2 * padding] = -torch.inf
        if bias < 0:
            mask[:, : t + 2 * padding] -= bias
        else:
            mask[:, t + 2 * padding :] += bias
        scores = q @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask
        return scores.softmax(-1) @ values

    return attention


ROWS = [
    Attends("video/radial", "radial", values, radial)
    for values in (
        {"frames": 9, "tokens_per_frame": 33, "block": 4, "text": 3, "sink": False, "decay": 0.95},
        {"frames": 17, "tokens_per_frame": 11, "block": 2, "text": 0, "sink": True, "decay": 0.2},
        {"frames": 6, "tokens_per_frame": 9, "block": 48, "text": 1, "sink": False, "decay": 0.8},
        {"frames": 1, "tokens_per_frame": 5, "block": 4, "text": 2, "sink": True, "decay": 1.0},
    )
]
ROWS += [
    Attends("video/spatial_temporal", "svg", {"frames": 5, "places": 12, **values}, svg, heads=3)
    for values in (
        {"text": 4, "width": 18, "temporal_heads": 1, "sink": False},
        {"text": 0, "width": 13, "temporal_heads": 2, "sink": True},
    )
]
ROWS += [
    Attends(
        "video/paro",
        "paro",
        {"t": 3, "h": 4, "w": 5, "text": text, "size": 7},
        paro,
        heads=7,
        inputs={"plan": np.array([0, 1, 2, 3, 4, 5, 2]), "keep": DRAWN.random((7, blocks, blocks)) < 0.4},
    )
    for text, blocks in ((5, 10), (0, 9))
]
ROWS += [
    Attends("video/sliding_tile", "sliding_tile", {"t": 4, "h": 6, "w": 9, "tile": (2, 2, 3), **values}, sliding_tile)
    for values in ({"window": (1, 3, 3), "text": 4}, {"window": (3, 1, 5), "text": 0})
]
ROWS += [
    Attends("video/freeswim", "inward", {"t": 2, "h": 7, "w": 8, "window": window}, freeswim)
    for window in ((3, 5), (9, 1))
]
HUNYUAN, COSMOS = strided_neighbourhood((18, 24, 24), (16, 8, 8)), strided_neighbourhood((16, 32, 48), (1, 8, 16))
ROWS += [
    Attends("video/video_gna", name, dict(zip("thw", lengths, strict=True)), source)
    for name, source, shapes in (
        ("hunyuan", HUNYUAN, ((20, 25, 1), (1, 26, 25))),
        ("cosmos", COSMOS, ((17, 1, 50), (1, 33, 20))),
    )
    for lengths in shapes
]
ROWS += [
    Attends("video/freelong", "freelong", {"t": t, "size": size}, freelong) for t, size in ((23, 8), (17, 7), (5, 8))
]
ROWS += [
    Computes("video/animate_zero", "animate", {"t": t, "size": size}, animate(size), heads=2)
    for t, size in ((11, 4), (3, 6))
]
ROWS += [
    Computes("video/video_infinity", "video_infinity", values, video_infinity(**values), heads=2)
    for values in (
        {"t": 13, "padding": 3, "shared": 4, "bias": 10.0},
        {"t": 7, "padding": 9, "shared": 3, "bias": -10.0},
        {"t": 3, "padding": 0, "shared": 8, "bias": 0.5},
    )
]

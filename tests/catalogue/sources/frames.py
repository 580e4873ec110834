"""Attention among the frames of a video, at one place of the image."""

import math

import numpy as np
import torch
from torch import Tensor

from tests.catalogue.compared import Attends, Computes


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

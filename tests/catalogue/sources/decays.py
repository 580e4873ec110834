"""Scores of images that decay with the distance, and attention along one axis."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tests.catalogue.compared import Computes

Attention = Callable[..., Tensor]


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])


def polyline(h: int, w: int) -> Attention:
    """An image of this size."""

    def decays(sums: Tensor) -> Tensor:
        """From sums up to each position to those between two, [..., to, from], of either order."""
        between = sums[..., :, None] - sums[..., None, :]
        return between.tril() - between.triu(1)

    def attention(q: Tensor, k: Tensor, v: Tensor, row_decay: Tensor, column_decay: Tensor) -> Tensor:
        """Released code: zhongchenzhao/PPMA, classification/models/PPMA.py, eb6491e.

        `MambaAttentionAllDouble`: the masks of rows and of columns, repeated over the other axis and added up, and half
        of the softmax with this sum and with its transpose.
        """
        grid = (*q.shape[:2], h, w)
        in_rows = decays(row_decay.view(grid))
        in_columns = decays(column_decay.view(grid).transpose(-1, -2)).permute(0, 1, 3, 4, 2)
        mask = in_rows[:, :, :, :, None] + in_columns[:, :, :, None]
        mask = mask.reshape(*q.shape[:2], h * w, h * w)
        halves = [(scores(q, k) + each).softmax(-1) for each in (mask, mask.transpose(-1, -2))]
        return (0.5 * halves[0] + 0.5 * halves[1]) @ v

    return attention


def manhattan(h: int, w: int) -> Attention:
    """`VisionRetentionAll`."""

    def attention(q: Tensor, k: Tensor, v: Tensor, gamma: Tensor) -> Tensor:
        """Released code: qhfan/RMT, classfication_release/RMT.py, 32ea214.

        `generate_2d_decay`: distances on both axes added up, times the logarithm of a decay.
        """
        grid = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), -1).reshape(h * w, 2)
        distance = (grid[:, None] - grid).abs().sum(-1)
        return (scores(q, k) + gamma[:, None, None] * distance).softmax(-1) @ v

    return attention


def retained(q: Tensor, k: Tensor, v: Tensor, gamma: Tensor) -> Tensor:
    """Attention along the last axis but one of [batch, heads, lines, places, dim], with one decay a place."""
    places = torch.arange(q.shape[-2])
    return (scores(q, k) + gamma[:, None, None, None] * (places[:, None] - places).abs()).softmax(-1) @ v


def along(h: int, w: int, axis: str) -> Attention:
    """One of the two attentions of `VisionRetentionChunk`."""

    def attention(q: Tensor, k: Tensor, v: Tensor, gamma: Tensor) -> Tensor:
        """Released code: qhfan/RMT, classfication_release/RMT.py, 32ea214.

        Rows first, then columns of what they gave: images are folded so that the axis comes last.
        """
        images = [x.unflatten(2, (h, w)) for x in (q, k, v)]
        if axis == "x":
            return retained(*images, gamma).flatten(2, 3)
        return retained(*(x.transpose(2, 3) for x in images), gamma).transpose(2, 3).flatten(2, 3)

    return attention


def in_shifted_windows(h: int, w: int, size: int, shift: int, axis: str, is_sigmoid: bool) -> Attention:
    """Rolls an image, cuts it into windows, and computes one line of one window after the other."""

    def attention(q: Tensor, k: Tensor, v: Tensor, gamma: Tensor) -> Tensor:
        """No public code: the paper's text.

        Swin's rolled windows and regions, RMT's decay along one axis; SWAT has sigmoids times the decay, no softmax.
        """
        cells = torch.roll(torch.arange(h * w).view(h, w), (-shift, -shift), (0, 1))
        out = torch.zeros_like(v)
        for window in (part for rows in cells.split(size, 0) for part in rows.split(size, 1)):
            for line in window if axis == "x" else window.T:
                at = line % w if axis == "x" else line // w
                for tokens in (line[at >= shift], line[at < shift]):
                    place = tokens % w if axis == "x" else tokens // w
                    decay = gamma[:, None, None] * (place[:, None] - place).abs()
                    found = scores(q[:, :, tokens], k[:, :, tokens])
                    p = found.sigmoid() * decay.exp() if is_sigmoid else (found + decay).softmax(-1)
                    out[:, :, tokens] = p @ v[:, :, tokens]
        return out

    return attention


def gaussian_mask(h: int, w: int) -> Attention:
    """An image of this size."""

    def attention(q: Tensor, k: Tensor, v: Tensor, sigma: Tensor, alpha: Tensor) -> Tensor:
        """Released code: CatworldLee/Gaussian-Mixture-Mask-Attention, models/gmm.py, b06b199.

        A fixed table of exponentials, to a power that each kernel and head has learned.
        """
        index = torch.arange(h * w)
        x, y = (at[:, None] - at for at in (index % w, index // w))
        table = torch.exp(-(x**2 + y**2).double()) ** (1 / 2)
        power = 1 / (sigma[:, :, None, None] ** 2 + 1e-5)
        return ((alpha[:, :, None, None] * table**power).sum(0) * scores(q, k)).softmax(-1) @ v

    return attention


def criss_cross(h: int, w: int) -> Attention:
    """An image of this size."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Released code: speedinghzl/CCNet, cc_attention/functions.py, 5c63513.

        A softmax over `h + w - 1` plain products a place: its row, and its column without the place itself.
        """
        out = []
        for place in range(h * w):
            y, x = divmod(place, w)
            row = [y * w + other for other in range(w)]
            column = [other * w + x for other in range(h) if other != y]
            keys = [*row, *column]
            weights = (q[:, :, place, None] @ k[:, :, keys].transpose(-1, -2)).softmax(-1)
            out.append(weights @ v[:, :, keys])
        return torch.cat(out, dim=2)

    return attention


GAMMA = {"gamma": (2,)}
ROWS = [
    Computes(
        "vision/polyline",
        "polyline",
        {"h": h, "w": w},
        polyline(h, w),
        heads=2,
        inputs=dict.fromkeys(("row_decay", "column_decay"), (2, 2, h * w)),
    )
    for h, w in ((4, 5), (1, 6))
]
ROWS += [Computes("vision/manhattan", "manhattan", {"h": 4, "w": 5}, manhattan(4, 5), heads=2, inputs=GAMMA)]
ROWS += [
    Computes("vision/manhattan", name, {"h": 4, "w": 5}, along(4, 5, axis), heads=2, inputs=GAMMA)
    for name, axis in (("rows", "x"), ("columns", "y"))
]
ROWS += [
    Computes(
        "vision/gated_swin_rmt",
        name,
        {"h": h, "w": w, "size": 3, "shift": shift},
        in_shifted_windows(h, w, 3, shift, "y" if name == "columns" else "x", name == "swat"),
        heads=2,
        inputs=GAMMA,
    )
    for name in ("rows", "columns", "swat")
    for h, w, shift in ((6, 9, 1), (7, 4, 2))
]
ROWS += [
    Computes(
        "vision/gaussian_mask",
        "gaussian_mask",
        {"h": h, "w": w, "kernels": kernels},
        gaussian_mask(h, w),
        heads=2,
        inputs=dict.fromkeys(("sigma", "alpha"), (kernels, 2)),
    )
    for h, w, kernels in ((4, 4, 3), (3, 5, 1))
]
ROWS += [Computes("vision/axial", "criss_cross", {"h": 4, "w": 5}, criss_cross(4, 5), heads=2)]

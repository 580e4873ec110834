"""Images that attend few keys: means of windows, or keys that are given."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tests.catalogue.compared import Computes
from tests.catalogue.sources.windows import near, numbered


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v


def hilo(h: int, w: int, size: int, high_heads: int) -> Callable[..., Tensor]:
    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Released code: ziplab/LITv2, hilo.py, 6c4f7c7.

        `hifi` attends inside of windows, `lofi` what average pooling leaves; the outputs of the first stand in front.
        """
        windows = torch.as_tensor(near(numbered(h, w), size, size))

        def pooled(x: Tensor) -> Tensor:
            image = x.mT.reshape(-1, x.shape[-1], h, w)
            return avg_pool2d(image, size).flatten(2).mT.unflatten(0, x.shape[:2])

        high, low = ([x[:, each] for x in (q, k, v)] for each in (slice(high_heads), slice(high_heads, None)))
        out = torch.empty_like(high[0])
        out[:, :, windows] = attention(*(x[:, :, windows] for x in high))
        return torch.cat([out, attention(low[0], *map(pooled, low[1:]))], dim=1)

    return compute


def given(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Released code: whai362/PVT, classification/pvt_v2.py, 0a0f63c.

    `Attention`, once its convolution has made the keys and values.
    """
    return attention(q, k, v)


def favit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Released code: q2479036243/FaViT, FaViT/classification/favit.py, 529b46b.

    One group of channels, once its keys and values are fused.
    """
    return attention(q, k, v)


ROWS = [
    Computes("vision/hilo", "hilo", values, hilo(**values), heads=3)
    for values in (
        {"h": 6, "w": 8, "size": 2, "high_heads": 1},
        {"h": 6, "w": 9, "size": 3, "high_heads": 2},
        {"h": 4, "w": 4, "size": 4, "high_heads": 3},
    )
]
ROWS += [
    Computes(
        "vision/spatial_reduction",
        "spatial_reduction",
        {"h": h, "w": w, "ratio": ratio},
        hilo(h, w, ratio, high_heads=0),
        heads=2,
    )
    for h, w, ratio in ((6, 8, 2), (9, 3, 3))
]
ROWS += [
    Computes("vision/spatial_reduction", "spatial_reduction_given", {"h": 7, "w": 9, "ratio": 3}, given, heads=2),
    Computes("vision/favit", "favit", {"tokens": 30, "fused": 9}, favit, heads=2),
    Computes("vision/favit", "favit", {"tokens": 12, "fused": 1}, favit),
]

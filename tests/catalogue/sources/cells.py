"""Windows, stripes and other cells that images are cut into, and keys that stand for them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d, unfold

from tests.catalogue.compared import Attends, Computes
from tests.catalogue.sources.windows import near, numbered


def hidiffusion(heads: int, h: int, w: int, shift: tuple[int, int]) -> np.ndarray:
    """Released code: megvii-research/HiDiffusion, hidiffusion/hidiffusion.py, e9ec39a.

    `window_partition`: rolled, then cut into two by two windows. Images with an odd side are resized there.
    """
    rolled = np.arange(h * w).reshape(h, w)
    if shift[0] > 0:
        rolled = np.roll(rolled, (-shift[0], -shift[1]), (0, 1))
    windows = rolled.reshape(2, h // 2, 2, w // 2).transpose(0, 2, 1, 3).reshape(4, -1)
    return of_windows(windows)


def of_windows(cells: np.ndarray) -> np.ndarray:
    """Who attends whom, of windows [windows, cells]."""
    count = cells.size
    attends = np.zeros((count, count), bool)
    for window in cells:
        attends[np.ix_(window, window)] = True
    return attends


def square_window(heads: int, h: int, w: int, kernel: int) -> np.ndarray:
    """By definition.

    Whatever the order, all tokens at most half a kernel away on either axis.
    """
    y, x = np.divmod(np.arange(h * w), w)
    reach = kernel // 2
    return (abs(y[:, None] - y) <= reach) & (abs(x[:, None] - x) <= reach)


def twins(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: Meituan-AutoML/Twins, gvt.py, f6e15d3.

    `GroupAttention`: groups of whole windows.
    """
    grid = np.arange(h * w).reshape(h // size, size, w // size, size)
    return of_windows(grid.swapaxes(1, 2).reshape(-1, size * size))


def reduced(heads: int, h: int, w: int, ratio: int) -> np.ndarray:
    """Released code: Meituan-AutoML/Twins, gvt.py, f6e15d3.

    `Attention`: a convolution whose kernel and stride are `ratio`, without padding, and no mask.
    """
    rows, columns = ((length - ratio) // ratio + 1 for length in (h, w))
    return np.ones((h * w, rows * columns), bool)


def tnt(heads: int, h: int, w: int, side: int) -> np.ndarray:
    """Released code: huawei-noah/Efficient-AI-Backbones, tnt_pytorch/tnt.py, 2c31745.

    `PatchEmbed` unfolds an image into patches of pixels, each of which is a sequence of its own.
    """
    image = torch.arange(h * w * side**2, dtype=torch.double).view(1, 1, h * side, w * side)
    return of_windows(unfold(image, side, stride=side)[0].T.long().numpy())


def duoformer(heads: int, h: int, w: int) -> np.ndarray:
    """Released code: AliSerwat/duoformer_TCGA, models/model.py, 5217c07.

    The index of a patch into each scale, and its channel token in front; tokens of different patches never meet.
    """
    start = h * w
    sequences = [[patch] for patch in range(h * w)]
    for side in (1, 2, 4, 8):
        for row in range(h):
            for column in range(w):
                sequences[row * w + column] += [
                    start + (side * row + y) * side * w + side * column + x for y in range(side) for x in range(side)
                ]
        start += h * w * side**2
    return of_windows(np.array(sequences))


def mcw(h: int, w: int, rows: int) -> Callable[..., Tensor]:
    """An image in strips of this many rows."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Released code: yechanp/MCW-Net, MCW_Net_small.py, d2f38bb.

        `RegionNONLocalBlock` with a grid of one column: chunks of rows, keys and values pooled in each, plain products.
        """
        images = [x.unflatten(2, (h, w)).permute(0, 1, 4, 2, 3) for x in (q, k, v)]
        outs = []
        for queries, keys, values in zip(*(x.split(rows, dim=3) for x in images), strict=True):
            pooled = [max_pool2d(x.flatten(0, 1), 2).unflatten(0, x.shape[:2]).flatten(3) for x in (keys, values)]
            weights = (queries.flatten(3).transpose(-1, -2) @ pooled[0]).softmax(-1)
            outs.append(weights @ pooled[1].transpose(-1, -2))
        return torch.cat(outs, dim=2)

    return attention


def checkerboard(heads: int, h: int, w: int) -> np.ndarray:
    """No public code: the paper's text.

    Anchors are every second cell, starting with the first of even rows and the second of odd ones.
    """
    anchors = np.zeros((h, w), bool)
    anchors[::2, ::2] = anchors[1::2, 1::2] = True
    return np.broadcast_to(anchors.ravel(), (h * w, h * w))


def upsample_window(heads: int, h: int, w: int, size: int, factor: int) -> np.ndarray:
    """No public code: the paper's text.

    The window of each cell of the coarse image, repeated for the fine one.
    """
    windows = np.arange(h)[:, None] // size * w + np.arange(w) // size
    fine = windows.repeat(factor, 0).repeat(factor, 1)
    return fine.reshape(-1, 1) == windows.ravel()


def cswin(heads: int, h: int, w: int, stripe: int) -> np.ndarray:
    """Released code: microsoft/CSWin-Transformer, models/cswin.py, f111ae2.

    The first half of the heads has windows of the whole height and `stripe` columns (idx 0), the second half of
    `stripe` rows and the whole width (idx 1).
    """
    cells = np.arange(h * w).reshape(h, w)
    attends = np.zeros((heads, h * w, h * w), bool)
    for head in range(heads):
        height, width = (h, stripe) if head < heads // 2 else (stripe, w)
        for y in range(0, h, height):
            for x in range(0, w, width):
                window = cells[y : y + height, x : x + width].ravel()
                attends[head][np.ix_(window, window)] = True
    return attends


def scaled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
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
        out[:, :, windows] = scaled(*(x[:, :, windows] for x in high))
        return torch.cat([out, scaled(low[0], *map(pooled, low[1:]))], dim=1)

    return compute


def spatial_reduction(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Released code: whai362/PVT, classification/pvt_v2.py, 0a0f63c.

    `Attention`, once its convolution has made the keys and values.
    """
    return scaled(q, k, v)


def favit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Released code: q2479036243/FaViT, FaViT/classification/favit.py, 529b46b.

    One group of channels, once its keys and values are fused.
    """
    return scaled(q, k, v)


def rows(heads: int, h: int, w: int) -> np.ndarray:
    """By definition."""
    return np.kron(np.eye(h, dtype=bool), np.ones((w, w), bool))


def columns(heads: int, h: int, w: int) -> np.ndarray:
    """By definition."""
    return np.kron(np.ones((h, h), bool), np.eye(w, dtype=bool))


ROWS = [
    Attends("vision/hidiffusion", "msw", {"h": 8, "w": 12, "shift": shift}, hidiffusion)
    for shift in ((0, 0), (1, 1), (2, 3), (3, 4))
]
ROWS += [Attends("vision/hilbert_window", "hilbert_layout", {"h": 7, "w": 10, "kernel": 5}, square_window)]
ROWS += [Attends("vision/twins", "local", {"h": 6, "w": 9, "size": 3}, twins)]
ROWS += [
    Attends("vision/twins", "reduced", {"h": h, "w": w, "ratio": ratio}, reduced)
    for h, w, ratio in ((6, 9, 3), (7, 5, 2))
]
ROWS += [Attends("vision/tnt", "words", {"h": 2, "w": 3, "side": side}, tnt) for side in (2, 3)]
ROWS += [Attends("vision/duoformer", "scales", {"h": 2, "w": 3}, duoformer)]
ROWS += [
    Computes("vision/mcw", "strips", {"h": h, "w": w, "rows": rows}, mcw(h, w, rows), heads=2)
    for h, w, rows in ((8, 6, 4), (6, 5, 2))
]
ROWS += [Attends("vision/checkerboard", "checkerboard", {"h": 5, "w": 6}, checkerboard)]
ROWS += [
    Attends("vision/wau", "upsample_window", {"h": h, "w": w, "size": size, "factor": factor}, upsample_window)
    for h, w, size, factor in ((4, 6, 2, 2), (5, 7, 3, 3))
]
ROWS += [
    Attends("vision/cswin", "cswin", {"h": 9, "w": 9, "stripe": 3}, cswin, heads=5),
    Attends("vision/cswin", "cswin", {"h": 8, "w": 9, "stripe": 3}, cswin, heads=4),
]
ROWS += [
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
    Computes(
        "vision/spatial_reduction", "spatial_reduction_given", {"h": 7, "w": 9, "ratio": 3}, spatial_reduction, heads=2
    ),
    Computes("vision/favit", "favit", {"tokens": 30, "fused": 9}, favit, heads=2),
    Computes("vision/favit", "favit", {"tokens": 12, "fused": 1}, favit),
]
ROWS += [
    Attends("vision/axial", "rows", {"h": 4, "w": 5}, rows),
    Attends("vision/axial", "columns", {"h": 4, "w": 5}, columns),
]

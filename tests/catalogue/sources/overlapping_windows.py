"""Windows of queries whose keys lie in other windows: wider ones, or boxes of their own."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from torch.nn.functional import unfold

from tests.catalogue.compared import Attends, Computes
from tests.catalogue.sources.windows import near, numbered


def crossed(queries: np.ndarray, keys: np.ndarray, tokens: int) -> np.ndarray:
    """Pairs of a query and a key of the same window, both [windows, members]; a key of -1 is none."""
    attends = np.zeros((tokens, tokens), bool)
    for window, around in zip(queries, keys, strict=True):
        attends[np.ix_(window, around[around >= 0])] = True
    return attends


def around(image: np.ndarray, wide: int, size: int) -> np.ndarray:
    """[windows, members] of the windows of `wide` x `wide` that begin every `size` cells."""
    return sliding_window_view(image, (wide, wide))[::size, ::size].reshape(-1, wide * wide)


def halonet(heads: int, h: int, w: int, block: int, halo: int) -> np.ndarray:
    """No public code: the paper's text.

    The image is cut into blocks of queries; a halo around each is gathered as well, and what lies outside is no key.
    """
    memory = around(np.pad(numbered(h, w), halo, constant_values=-1), block + 2 * halo, block)
    return crossed(near(numbered(h, w), block, block), memory, h * w)


def hat_cut(heads: int, h: int, w: int, size: int, overlap: int) -> np.ndarray:
    """Released code: XPixelGroup/HAT, hat/archs/hat_arch.py, 1638a9a.

    What `nn.Unfold` of `OCAB` gathers, but for the zeros that it pads with.
    """
    wide = int(size * overlap / 2) + size
    memory = around(np.pad(numbered(h, w), (wide - size) // 2, constant_values=-1), wide, size)
    return crossed(near(numbered(h, w), size, size), memory, h * w)


def hat(h: int, w: int, size: int, overlap: int) -> Callable[..., Tensor]:
    wide = int(size * overlap / 2) + size
    side = size + wide - 1

    def compute(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None = None) -> Tensor:
        """Released code: XPixelGroup/HAT, hat/archs/hat_arch.py, 1638a9a.

        `OCAB`: keys and values are unfolded, zeros beyond the border included. The table of the model is flat, and
        entries of distances that come out negative stand at its end.
        """
        batch, heads, _, dim = q.shape
        rows = torch.as_tensor(near(numbered(h, w), size, size))

        def gathered(x: Tensor) -> Tensor:  # [batch, heads, windows, members, dim]
            image = x.mT.reshape(batch, heads * dim, h, w)
            cut = unfold(image, wide, stride=size, padding=(wide - size) // 2)
            return cut.view(batch, heads, dim, wide**2, -1).permute(0, 1, 4, 3, 2)

        scores = q[:, :, rows] * dim**-0.5 @ gathered(k).mT
        if table is not None:
            own, other = torch.arange(size), torch.arange(wide)
            apart = other - own[:, None] + size - wide + 1
            index = (apart[:, None, :, None] * side + apart[None, :, None, :]).reshape(size**2, wide**2)
            scores = scores + flat(table)[:, None, index.view(-1)].view(heads, 1, *index.shape)
        out = torch.empty_like(q)
        out[:, :, rows] = scores.softmax(-1) @ gathered(v)
        return out

    def flat(table: Tensor) -> Tensor:
        """[heads, side ** 2] as the model has it, of [heads, side, side] by distance from the least one on."""
        least = 2 - wide
        places = np.empty(side**2, int)
        for number in range(side**2):
            places[(number // side + least) * side + number % side + least] = number
        return table.flatten(1)[:, torch.as_tensor(places)]

    return compute


def varying_window(heads: int, h: int, w: int, size: int, ratio: int) -> np.ndarray:
    """Released code: yan-hao-tian/VW, mmsegmentation-custom/mmseg/models/decode_heads/vw_head.py, 9bc1891.

    `copy_shift_padding`: what the first and the last window lack beyond the border is copied from their other side.
    """
    wide, beyond = ratio * size, (ratio + 1) * size // 2
    context = numbered(h, w)
    for axis in (0, 1):
        before, behind = (context.take(places, axis) for places in (range(beyond, wide), range(-wide, -beyond)))
        context = np.concatenate([before, context, behind], axis)
    return crossed(near(numbered(h, w), size, size), around(context, wide, size), h * w)


def vsa(heads: int, h: int, w: int, size: int, box: np.ndarray) -> np.ndarray:
    """Released code: ViTAE-Transformer/ViTAE-VSA, Image-Classification/vitaev2_vsa/vsa.py, 46344ae.

    Places between -1 and 1: the centre of the window, its cells around that, and the offset of a head, as long as the
    boxes are; scales are 0. Each place is a cell.
    """
    attends = np.zeros((heads, h * w, h * w), bool)
    queries = near(numbered(h, w), size, size)

    def sampled(length: int, window: int, offset: int) -> np.ndarray:
        centre = np.linspace(-1, 1, length).reshape(-1, size).mean(axis=1)[window]
        cells = np.arange(size) * 2 / (length - 1)
        places = centre + cells - cells.mean() + offset * 2 / (length - 1)
        found = (places + 1) / 2 * (length - 1)
        np.testing.assert_allclose(found, found.round(), atol=1e-9)
        return found.round().astype(int)

    for head in range(heads):
        for window, (top, _, left, _) in enumerate(box[head]):
            down, right = divmod(window, w // size)
            rows, columns = sampled(h, down, top - down * size), sampled(w, right, left - right * size)
            keys = numbered(h, w)[np.ix_(rows, columns)].ravel()
            attends[head][np.ix_(queries[window], keys)] = True
    return attends


def boxes(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """Squares of `size` anywhere in the image."""
    random = np.random.default_rng(5)
    windows = h // size * (w // size)
    top, left = (random.integers(0, length - size + 1, (heads, windows)) for length in (h, w))
    return np.stack([top, top + size, left, left + size], axis=-1)


VSA = {"h": 9, "w": 12, "size": 3}
ROWS: list[Attends | Computes] = [
    Attends("vision/halonet", "halonet", {"h": 8, "w": 12, "block": 4, "halo": 1}, halonet),
    Attends("vision/halonet", "halonet", {"h": 9, "w": 6, "block": 3, "halo": 4}, halonet),
    Attends("vision/varying_window", "varying_window", {"h": 16, "w": 12, "size": 4, "ratio": 2}, varying_window),
    Attends("vision/varying_window", "varying_window", {"h": 9, "w": 12, "size": 3, "ratio": 2}, varying_window),
    Attends("vision/varying_window", "varying_window", {"h": 15, "w": 12, "size": 3, "ratio": 4}, varying_window),
    Attends("vision/vsa", "vsa", VSA, vsa, heads=2, inputs={"box": boxes(2, **VSA)}),
]
for values in (
    {"h": 8, "w": 12, "size": 4, "overlap": 1},
    {"h": 8, "w": 4, "size": 4, "overlap": 2},
    {"h": 6, "w": 9, "size": 3, "overlap": 3},
):
    side = 2 * values["size"] + values["size"] * values["overlap"] // 2 - 1
    ROWS += [
        Attends("vision/hat", "overlapping_cut", values, hat_cut),
        Computes("vision/hat", "overlapping", values, hat(**values), heads=2),
        Computes("vision/hat", "overlapping_biased", values, hat(**values), heads=2, inputs={"table": (2, side, side)}),
    ]

"""Images beside text and other tokens."""

import math

import numpy as np

from tests.catalogue.compared import Attends


def clear(heads: int, text: int, h: int, w: int, radius: int) -> np.ndarray:
    """Released code: Huage001/CLEAR, attention_processor.py, 98e9fed.

    `init_local_mask_flex`: positions behind the text, by row and column.
    """
    q, k = np.arange(text + h * w)[:, None], np.arange(text + h * w)
    distance = ((q - text) // w - (k - text) // w) ** 2 + ((q - text) % w - (k - text) % w) ** 2
    return (q < text) | (k < text) | (distance < radius**2)


def clear_down(heads: int, text: int, h: int, w: int, radius: int, factor: int) -> np.ndarray:
    """Released code: Huage001/CLEAR, attention_processor.py, 98e9fed.

    `init_local_downsample_mask_flex`: further keys behind those of text and image.
    """
    length = text + h * w
    q, k = np.arange(length)[:, None], np.arange(length + (h // factor) * (w // factor))
    distance = ((q - text) // w - (k - text) // w) ** 2 + ((q - text) % w - (k - text) % w) ** 2
    image = (k < text) | (k >= length) | (distance < radius**2)
    return np.where(q < text, k < length, image)


def scale_dit(heads: int, text: int, h: int, w: int, tile: int, ratio: int) -> np.ndarray:
    """Released code: PeterYYZhang/Scale-DiT, src/flux/block2.py, ef68520.

    `_build_mask` with its defaults, but for `text_attend_scale`, which all configurations limit.
    """
    image, guide = h * w, (h // ratio) * (w // ratio)
    length = text + image + guide
    mask = np.zeros((length, length), bool)
    mask[:text, :-guide] = True
    mask[:, :text] = True
    rows, columns = np.divmod(np.arange(image), w)
    high, wide = (rows + 1) % h // tile, (columns + 1) % w // tile
    near = abs(high[:, None] - high) + abs(wide[:, None] - wide) < 1
    mask[text : text + image, text : text + image] = near
    seen, among = mask[text : text + image, -guide:], mask[-guide:, -guide:]
    if guide <= 256:
        seen[:] = among[:] = True
        return mask
    area = tile * tile
    parts = max(guide // area, 1)
    stretch = image // parts
    for part in range(parts):
        seen[part * stretch : (part + 1) * stretch, part * area : (part + 1) * area] = True
    for start in range(0, guide, 256):
        among[start : start + 256, start : start + 256] = True
    return mask


def scale_dit_sliding(heads: int, text: int, h: int, w: int, tile: int, ratio: int) -> np.ndarray:
    """Released code: PeterYYZhang/Scale-DiT, src/flux/build_mask.ipynb, ef68520.

    `_build_mask` of the first cell, in the order of the image: both of its orders are undone.
    """
    low_h, low_w = h // ratio, w // ratio
    image, guide = h * w, low_h * low_w
    length = text + image + guide
    mask = np.zeros((length, length), bool)
    mask[:text, :-guide] = True
    mask[:-guide, :text] = True
    rows, columns = np.divmod(np.arange(image), w)
    low_rows, low_columns = np.divmod(np.arange(guide), low_w)

    def near(y: np.ndarray, x: np.ndarray, reach: int) -> np.ndarray:
        return (abs(y[:, None] - y) <= reach) & (abs(x[:, None] - x) <= reach)

    mask[text : text + image, text : text + image] = near(rows, columns, tile // 2)
    down, right = max(h // low_h, 1), max(w // low_w, 1)
    high, wide = max(tile // down, 1), max(tile // right, 1)
    per_row = math.ceil(low_w / wide)
    own = rows // down // high * per_row + columns // right // wide
    number = low_rows // high * per_row + low_columns // wide
    mask[text : text + image, -guide:] = abs(own[:, None] - number) <= 1
    mask[-guide:, -guide:] = near(low_rows, low_columns, 4 // 2)
    return mask


ROWS = [
    Attends("vision/clear", "clear", {"text": text, "h": 7, "w": 9, "radius": radius}, clear)
    for text, radius in ((5, 3), (0, 4))
]
ROWS += [
    Attends("vision/clear", "clear_down", {"text": text, "h": 9, "w": 8, "radius": 3, "factor": factor}, clear_down)
    for text, factor in ((5, 2), (0, 4))
]
SIZES = (
    {"text": 3, "h": 8, "w": 12, "tile": 4, "ratio": 4},
    {"text": 0, "h": 9, "w": 10, "tile": 3, "ratio": 2},
    {"text": 2, "h": 34, "w": 18, "tile": 4, "ratio": 1},
)
ROWS += [Attends("vision/scale_dit", "scale_dit", values, scale_dit) for values in SIZES]
ROWS += [Attends("vision/scale_dit", "scale_dit_sliding", values, scale_dit_sliding) for values in SIZES]

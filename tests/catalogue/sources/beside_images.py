"""Images beside text, and beside tokens that stand for parts of them."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad, unfold

from tests.catalogue.compared import Attends, Computes

Attention = Callable[..., Tensor]


def image_of(x: Tensor, h: int, w: int) -> Tensor:
    """[batch * heads, dim, h, w] of [batch, heads, tokens, dim]."""
    return x.transpose(-1, -2).unflatten(3, (h, w)).flatten(0, 1)


def gather_super_tokens(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: hhb072/STViT, models/stvit.py, c9ed9a4.

    Each cell has the unfolded 3 x 3 super tokens around its own; where an affinity is folded back to, it comes from.
    """
    rows, columns = math.ceil(h / size), math.ceil(w / size)
    near = unfold(torch.arange(1.0, rows * columns + 1).view(1, 1, rows, columns), 3, padding=1)[0].T.long()
    attends = np.zeros((rows * columns, h * w), bool)
    for token in range(h * w):
        y, x = divmod(token, w)
        for other in near[y // size * columns + x // size].tolist():
            if other:  # zero is padding
                attends[other - 1, token] = True
    return attends


def broadcast_super_tokens(h: int, w: int, size: int) -> Attention:
    """An image in cells of `size` x `size`."""
    rows, columns = math.ceil(h / size), math.ceil(w / size)

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Released code: hhb072/STViT, models/stvit.py, c9ed9a4.

        `stoken_forward`: an affinity is a softmax over nine super tokens, unfolded with zeros around the image; it
        takes them back as well. It has one head, which is as wide as the model.
        """
        batch, heads = q.shape[:2]
        padded = pad(image_of(q, h, w), (0, columns * size - w, 0, rows * size - h))
        cells = unfold(padded, size, stride=size).view(batch * heads, -1, size**2, rows * columns).permute(0, 3, 2, 1)
        around = (unfold(image_of(x, rows, columns), 3, padding=1) for x in (k, v))
        keys, values = (x.view(batch * heads, -1, 9, rows * columns).permute(0, 3, 1, 2) for x in around)
        affinity = (cells @ keys * q.shape[-1] ** -0.5).softmax(-1)
        out = (affinity @ values.transpose(-1, -2)).view(batch * heads, rows, columns, size, size, -1)
        image = out.transpose(2, 3).reshape(batch * heads, rows * size, columns * size, -1)[:, :h, :w]
        return image.reshape(batch, heads, h * w, -1)

    return attention


def gather_agents(h: int, w: int, size: int) -> Attention:
    """Agents that are means of queries."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Released code: LeapLabTHU/Agent-Attention, agent_transformer/models/agent_deit.py, 36cf0da.

        Adaptive pooling of the queries to whole cells; biases of positions are added, which are left out here.
        """
        pooled = adaptive_avg_pool2d(image_of(q, h, w), (h // size, w // size)).flatten(2)
        agents = pooled.unflatten(0, q.shape[:2]).transpose(-1, -2)
        return (agents * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1) @ v

    return attention


def broadcast_agents(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Released code: LeapLabTHU/Agent-Attention, agent_transformer/models/agent_deit.py, 36cf0da.

    Queries meet the agents, whose values are what these gathered.
    """
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1) @ v


def lookup_gather(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """No public code: the paper's text.

    Cross-attention of all lookup tokens to all tokens.
    """
    return np.ones((math.ceil(h / size) * math.ceil(w / size), h * w), bool)


def lookup_broadcast(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """No public code: the paper's text.

    The same attention the other way round.
    """
    return lookup_gather(heads, h, w, size).T


def ultragen(heads: int, h: int, w: int, size: int, ratio: int) -> np.ndarray:
    """No public code: the paper's text.

    Windows cut out of the image, those of every other head beginning half a window outside; and all means.
    """
    y, x = np.divmod(np.arange(h * w), w)
    attends = []
    for head in range(heads):
        start = -(size - size // 2) if head % 2 else 0
        window = np.stack([(at - start) // size for at in (y, x)])
        attends.append((window[:, :, None] == window[:, None]).all(0))
    means = np.ones((heads, h * w, math.ceil(h / ratio) * math.ceil(w / ratio)), bool)
    return np.concatenate([np.stack(attends), means], axis=2)


def fit(rows: str, columns: str) -> Callable[..., np.ndarray]:
    """So many tokens of each group attend so many others, given by name."""

    def grouped(heads: int, groups: int, size: int, latents: int) -> np.ndarray:
        """Released code: google-research/pix2seq, architectures/transformers.py, 19f13b7.

        `FIT`: batch and groups are one axis, of data and of latents, but in the layers among latents.
        """
        counts = {"size": size, "latents": latents}
        return np.kron(np.eye(groups), np.ones((counts[rows], counts[columns]))).astype(bool)

    return grouped


def fit_global(heads: int, groups: int, size: int, latents: int) -> np.ndarray:
    """Released code: google-research/pix2seq, architectures/transformers.py, 19f13b7.

    `l_network`: latents of all groups in one sequence, without the mask that autoregression has.
    """
    return np.ones((groups * latents, groups * latents), bool)


def frame(heads: int, frames: int, h: int, w: int) -> np.ndarray:
    """Released code: wzpscott/FlashVGGT, flashvggt/layers/attention.py, 70de435.

    Batch and frames are one axis in `_process_frame_attention`.
    """
    return np.kron(np.eye(frames), np.ones((h * w, h * w))).astype(bool)


def descriptors(heads: int, frames: int, h: int, w: int, ratio: int) -> np.ndarray:
    """Released code: wzpscott/FlashVGGT, flashvggt/layers/attention.py, 70de435.

    All tokens of all frames to all frames scaled down, without a mask.
    """
    return np.ones((frames * h * w, frames * (h // ratio) * (w // ratio)), bool)


def star(h: int, w: int, factor: int) -> Attention:
    """A fine image of `factor` times the size."""

    def attention(q: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> Tensor:
        """Released code: mwalmer-umd/UPLiFT, uplift/uplift.py, 605a100.

        `LocalAttender` with 25 neighbours: values padded by replication and stacked by offset, weighed by a softmax of
        logits over the offsets. Logits are those of all heads.
        """
        batch, heads = q.shape[:2]
        padded = pad(image_of(v, h, w), (2, 2, 2, 2), mode="replicate")
        stacked = torch.stack([padded[:, :, y : y + h, x : x + w] for y in range(5) for x in range(5)], dim=-1)
        weights = logits.softmax(-1).view(batch, 1, h, factor, w, factor, 25)
        values = stacked.unflatten(0, (batch, heads)).permute(0, 1, 3, 4, 5, 2)
        out = torch.einsum("bnyfxgo,bnyxod->bnyfxgd", weights.expand(-1, heads, -1, -1, -1, -1, -1), values)
        return out.reshape(batch, heads, h * factor * w * factor, -1)

    return attention


def regional(heads: int, h: int, w: int, words: int, region: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """No public code: the paper's text.

    A mask of the prompt for all, and one of each region.
    """
    attends = np.zeros((h * w, words), bool)
    attends[:, owner == -1] = True
    for number in range(region.max() + 1):
        attends[np.ix_(region == number, owner == number)] = True
    return attends


SIZES = ({"h": 6, "w": 9, "size": 3}, {"h": 5, "w": 7, "size": 2}, {"h": 1, "w": 9, "size": 2})


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


ROWS = [Attends("vision/super_token", "gather", values, gather_super_tokens) for values in SIZES]
ROWS += [
    Computes("vision/super_token", "broadcast", values, broadcast_super_tokens(**values), heads=2) for values in SIZES
]
ROWS += [
    Computes("vision/agent", "gather", SIZES[0], gather_agents(**SIZES[0]), heads=2),
    Computes("vision/agent", "broadcast", SIZES[0], broadcast_agents, heads=2),
]
ROWS += [Attends("vision/lookup", "gather", values, lookup_gather) for values in SIZES]
ROWS += [Attends("vision/lookup", "broadcast", values, lookup_broadcast) for values in SIZES]
ROWS += [Attends("vision/ultragen", "ultragen", {"h": 7, "w": 10, "size": 5, "ratio": 3}, ultragen, heads=3)]
GROUPS = {"groups": 3, "size": 5, "latents": 2}
ROWS += [
    Attends("vision/fit", "local", GROUPS, fit("size", "size")),
    Attends("vision/fit", "read", GROUPS, fit("latents", "size")),
    Attends("vision/fit", "write", GROUPS, fit("size", "latents")),
    Attends("vision/fit", "global", GROUPS, fit_global),
]
ROWS += [
    Attends("vision/flashvggt", "frame", {"frames": 3, "h": 2, "w": 4}, frame),
    Attends("vision/flashvggt", "descriptors", {"frames": 3, "h": 4, "w": 7, "ratio": 2}, descriptors),
]
ROWS += [
    Computes(
        "vision/uplift",
        "star",
        {"h": h, "w": w, "factor": factor},
        star(h, w, factor),
        heads=2,
        inputs={"logits": (2, h * factor, w * factor, 25)},
    )
    for h, w, factor in ((3, 4, 2), (1, 2, 3))
]
ROWS += [
    Attends(
        "vision/regional",
        "regional",
        {"h": 3, "w": 5, "words": 11},
        regional,
        inputs={"region": np.arange(15) % 4, "owner": np.array([-1, -1, 0, 0, 1, 3, 3, 3, 2, -1, 7])},
    )
]
ROWS += [
    Attends("vision/clear", "clear", {"text": text, "h": 7, "w": 9, "radius": radius}, clear)
    for text, radius in ((5, 3), (0, 4))
]
ROWS += [
    Attends("vision/clear", "clear_down", {"text": text, "h": 9, "w": 8, "radius": 3, "factor": factor}, clear_down)
    for text, factor in ((5, 2), (0, 4))
]
GUIDES = (
    {"text": 3, "h": 8, "w": 12, "tile": 4, "ratio": 4},
    {"text": 0, "h": 9, "w": 10, "tile": 3, "ratio": 2},
    {"text": 2, "h": 34, "w": 18, "tile": 4, "ratio": 1},
)
ROWS += [Attends("vision/scale_dit", "scale_dit", values, scale_dit) for values in GUIDES]
ROWS += [Attends("vision/scale_dit", "scale_dit_sliding", values, scale_dit_sliding) for values in GUIDES]

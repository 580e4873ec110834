"""What people write in place of a pattern on a CPU: functions of q, k and v, [batch, heads, tokens, head dim].

Each is made once, with all that depends on positions alone, and called again and again.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.functional import pad, scaled_dot_product_attention

from maskdsl.runtime.attention import Attention

Compute = Callable[[Tensor, Tensor, Tensor], Tensor]
Pair = tuple[int, int]


def dense(mask: Tensor | None = None, *, causal: bool = False, scale: float | None = None) -> Compute:
    """SDPA over all pairs, or those of a mask; the mask may be an additive one."""

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shared = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=shared)

    return compute


def folded(mask: Tensor | None = None) -> Compute:
    """SDPA of a few queries, those of the heads that share a key head as rows of one head."""

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        group = q.shape[1] // k.shape[1]
        rows = q.unflatten(1, (-1, group)).flatten(2, 3)
        some = mask if mask is None else mask.repeat(*[1] * (mask.dim() - 2), group, 1)
        out = scaled_dot_product_attention(rows, k, v, some)
        return out.unflatten(2, (group, -1)).flatten(1, 2)

    return compute


def of_keys(keys: slice, compute: Compute) -> Compute:
    """A cache of which these keys are read."""
    return lambda q, k, v: compute(q, k[:, :, keys], v[:, :, keys])


def of_pages(pages: Tensor, start: int, stop: int, compute: Compute) -> Compute:
    """A cache of pages, [pages, heads, page size, head dim]: these are gathered; of their tokens some are read."""

    def gathered(x: Tensor) -> Tensor:
        return x[pages].transpose(0, 1).flatten(1, 2)[None, :, start:stop]

    return lambda q, k, v: compute(q, gathered(k), gathered(v))


def entry_by_entry(lengths: Sequence[int]) -> Compute:
    """A batch whose entries have so many keys, one query each."""
    one = folded()

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        entries = [one(q[[i]], k[i : i + 1, :, :n], v[i : i + 1, :, :n]) for i, n in enumerate(lengths)]
        return torch.cat(entries)

    return compute


def loop(ends: Sequence[int]) -> Compute:
    """Causal SDPA of each document; a document ends where the next one begins."""
    causal = dense(causal=True)

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        spans = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        return torch.cat([causal(q[:, :, span], k[:, :, span], v[:, :, span]) for span in spans], dim=2)

    return compute


def loop_of_rows(ends: Sequence[int]) -> Compute:
    """The same for sequences one behind the other, [all tokens, heads, head dim]."""
    compute = loop(ends)

    def rows(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return compute(*(x.transpose(0, 1)[None] for x in (q, k, v)))[0].transpose(0, 1)

    return rows


def blocked(n: int, before: int, after: int, rows: int) -> Compute:
    """A window as blocks of `rows` queries against the keys that one of them attends, unfolded, and a mask."""
    starts = torch.arange(0, n, rows)[:, None]
    queries, keys = starts + torch.arange(rows), starts + torch.arange(-before, rows + after)
    behind = queries[:, :, None] - keys[:, None]
    mask = (behind <= before) & (behind >= -after) & ((keys >= 0) & (keys < n))[:, None]

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads, group = k.shape[1], q.shape[1] // k.shape[1]
        blocks = q[0].reshape(heads, group, -1, rows, q.shape[-1]).transpose(1, 2).flatten(2, 3)
        windows = (pad(x[0], (0, 0, before, after)).unfold(1, before + rows + after, rows).mT for x in (k, v))
        out = scaled_dot_product_attention(blocks, *windows, mask.repeat(1, group, 1)[None])
        return out.unflatten(2, (group, rows)).transpose(1, 2).reshape(q.shape)

    return compute


def head_by_head(computes: Sequence[Compute]) -> Compute:
    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        heads = zip(computes, *(x.split(1, dim=1) for x in (q, k, v)), strict=True)
        return torch.cat([each(*tensors) for each, *tensors in heads], dim=1)

    return compute


def in_tiles(h: int, w: int, side: Pair) -> Tensor:
    """The raster position of each pixel of an image that is laid out tile by tile."""
    raster = torch.arange(h * w).view(h // side[0], side[0], w // side[1], side[1])
    return raster.transpose(1, 2).flatten()


def tiles(h: int, w: int, window: Pair, side: Pair, laid_out: bool) -> Compute:
    """Neighbourhoods as tiles of queries against the union of their windows, gathered, and a mask.

    Tensors come in raster order, or `laid_out` tile by tile.
    """
    order = in_tiles(h, w, side)
    position = order.argsort()
    count, (y, x) = order.numel() // (side[0] * side[1]), (order // w, order % w)
    first = [(at - size // 2).clamp(0, length - size) for at, size, length in zip((y, x), window, (h, w), strict=True)]
    spans = [min(s + size - 1, length) for s, size, length in zip(side, window, (h, w), strict=True)]
    corners = [f.view(count, -1).amin(1).clamp(max=n - s) for f, s, n in zip(first, spans, (h, w), strict=True)]
    ys, xs = (corner[:, None] + torch.arange(span) for corner, span in zip(corners, spans, strict=True))
    keys = (ys[:, :, None] * w + xs[:, None]).flatten(1)
    lowest = [f.view(count, -1, 1) for f in first]
    inside = [
        (at[:, None] >= f) & (at[:, None] < f + size)
        for at, f, size in zip((keys // w, keys % w), lowest, window, strict=True)
    ]
    mask = (inside[0] & inside[1])[None]
    gathered = position[keys] if laid_out else keys

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        rows = (q if laid_out else q[:, :, order])[0].unflatten(1, (count, -1))
        out = scaled_dot_product_attention(rows, k[0][:, gathered], v[0][:, gathered], mask).flatten(1, 2)[None]
        return out if laid_out else out[:, :, position]

    return compute


def swin(h: int, w: int, size: int, shift: int, bias: Tensor | None, dtype: torch.dtype) -> Compute:
    """The code of Swin repositories: roll, cut into windows, SDPA with a bias, and back.

    `bias` is [heads, size * size, size * size].
    """
    mask = None if bias is None else bias[None].to(dtype)
    if shift:
        borders = [torch.arange(n).ge(n - size).int() + torch.arange(n).ge(n - shift).int() for n in (h, w)]
        regions = windows((borders[0][:, None] * 3 + borders[1])[None, None, :, :, None], size)[:, 0, :, 0]
        apart = (regions[:, :, None] != regions[:, None])[:, None]
        mask = torch.where(apart, -torch.inf, torch.zeros((), dtype=dtype) if mask is None else mask)

    def cut(x: Tensor) -> Tensor:
        image = x.unflatten(2, (h, w))
        return windows(image.roll((-shift, -shift), (2, 3)) if shift else image, size)

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = scaled_dot_product_attention(cut(q), cut(k), cut(v), mask)
        image = out.view(h // size, w // size, *out.shape[1:2], size, size, -1).permute(2, 0, 3, 1, 4, 5)
        image = image.reshape(1, out.shape[1], h, w, -1)
        return (image.roll((shift, shift), (2, 3)) if shift else image).flatten(2, 3)

    return compute


def windows(image: Tensor, size: int) -> Tensor:
    """[1, heads, h, w, dim] as [windows, heads, size * size, dim]."""
    heads, h, w, dim = image.shape[1:]
    cut = image.view(heads, h // size, size, w // size, size, dim).permute(1, 3, 0, 2, 4, 5)
    return cut.reshape(-1, heads, size * size, dim)


def capped(mask: Tensor, cap: float) -> Compute:
    """Products of whole matrices and a softmax, scores soft-capped."""

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.tanh(q @ k.mT * (q.shape[-1] ** -0.5 / cap)) * cap
        return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ v

    return compute


def nearest(top: int, rows: int = 512) -> Compute:
    """The best keys of each query: all scores, in blocks of queries, `topk`, and a sum of gathered values."""

    def compute(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        for head in range(q.shape[1]):
            for start in range(0, q.shape[2], rows):
                block = slice(start, start + rows)
                scores, keys = (q[0, head, block] @ k[0, head].T).topk(top, sorted=False)
                shares = (scores * q.shape[-1] ** -0.5).softmax(dim=-1)
                out[0, head, block] = torch.bmm(shares[:, None], v[0, head][keys])[:, 0]
        return out

    return compute


def flex(attention: Attention, inputs: dict[str, Tensor], head_dim: int) -> Compute:
    """FlexAttention, compiled for exactly these shapes, on the exact tiles of the pattern; no gradients on a CPU."""
    compiled = torch.compile(flex_attention, dynamic=False)
    arguments = attention.to_flex(head_dim=head_dim, **inputs).arguments
    return lambda q, k, v: compiled(q, k, v, **arguments)

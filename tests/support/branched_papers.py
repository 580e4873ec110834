"""Published attentions that are sums of softmaxes, as one pattern each, and float64 code of their released models."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import fold, softplus, unfold

import maskdsl

GPSA = """
## ConViT: attention by content and by position, mixed by a gate a head.
pattern gpsa(h = 5, w = 4) {
    space image[y = h, x = w]
    input gate: float[heads]
    input place: float[heads, 3]

    branch content {
        attend all -> all
        weight 1.0 - sigmoid(gate[head])
    }

    branch position {
        attend all -> all
        score place[head, 0] * (k.x - q.x)
            + place[head, 1] * (k.y - q.y)
            + place[head, 2] * ((k.x - q.x) ** 2 + (k.y - q.y) ** 2)
        weight sigmoid(gate[head])
    }
}
"""

PPMA = """
## PPMA: decays along the path that goes first in the row of the query, and along that of the key; both count half.
pattern paths(h = 5, w = 4) {
    space image[y = h, x = w]
    input row: float[batch, heads, h * w]
    input column: float[batch, heads, h * w]
    let there = q.y * w + k.x
    let back = k.y * w + q.x

    branch forth {
        attend all -> all
        let along = row[batch, head, q] - row[batch, head, there]
        let down = column[batch, head, there] - column[batch, head, k]
        score s + (along if k.x <= q.x else -along) + (down if k.y <= q.y else -down)
        weight 0.5
    }

    branch returning {
        attend all -> all
        let along = row[batch, head, k] - row[batch, head, back]
        let down = column[batch, head, back] - column[batch, head, q]
        score s + (along if q.x <= k.x else -along) + (down if q.y <= k.y else -down)
        weight 0.5
    }
}
"""

VOLO = """
## VOLO: the windows of all centres that reach a token, each with its own softmax by the centre's logits, folded.
pattern outlook(h = 5, w = 4, size = 3) {
    space image[y = h, x = w]
    input logits: float[batch, heads, h * w, size ** 2, size ** 2]

    branch window for o in 0 .. size ** 2 {
        let y = q.y - o // size + size // 2
        let x = q.x - o % size + size // 2
        let down = k.y - y + size // 2
        let right = k.x - x + size // 2
        let exists = 0 <= y < h and 0 <= x < w
        attend exists and 0 <= down < size and 0 <= right < size
        score logits[batch, head, y * w + x, o, down * size + right]
        sink log(
            sum(
                exp(logits[batch, head, clamp(y * w + x, 0, h * w - 1), o, j])
                    if not (0 <= y + j // size - size // 2 < h and 0 <= x + j % size - size // 2 < w) else 0.0
                for j in 0 .. size ** 2
            )
        )
    }
}
"""

DIFFERENTIAL = """
## Differential Transformer: a second softmax, of other queries and keys, is taken away from the first.
pattern differential(n = 20, width = 8) {
    space tokens[n]
    input q2: float[batch, heads, tokens, width]
    input k2: float[batch, heads, tokens, width]
    input mix: float[heads]

    branch first {
        attend causal
    }

    branch second {
        attend causal
        score dot(q.q2, k.k2) / sqrt(float(width))
        weight -mix[head]
    }
}
"""

ADAPTER = """
## IP-Adapter: attention to a text, and beside it, by its own softmax, to a picture.
pattern adapter(n = 20, text_length = 7, pictures = 4) {
    space image[n]
    space text[text_length]
    space picture[pictures]
    queries image
    keys text ++ picture
    input strength: float

    branch text {
        attend all -> text
    }

    branch picture {
        attend all -> picture
        weight strength
    }
}
"""

TRANSNEXT = """
## TransNeXt: a window and a pooled map in one softmax; behind it, what the query says of each place of the window.
pattern aggregated(h = 5, w = 4, size = 3, pool = 2) {
    space image[y = h, x = w]
    space pooled[y = pool, x = pool]
    queries image
    keys image ++ pooled
    input embedding: float[heads, dim]
    input temperature: float[heads]
    input near: float[heads, size ** 2]
    input far: float[heads, h * w, pool ** 2]
    input window_tokens: float[heads, size ** 2, dim]
    input bias: float[heads, size ** 2]
    let half = size // 2
    let place = (k.y - q.y + half) * size + k.x - q.x + half
    let rows = min(q.y + half, h - 1) - max(q.y - half, 0) + 1
    let columns = min(q.x + half, w - 1) - max(q.x - half, 0) + 1

    branch both {
        attend all -> image where abs(q.y - k.y) <= half and abs(q.x - k.x) <= half
        attend all -> pooled
        score dot(q + embedding[head], k) * log(1.0 + exp(temperature[head])) * log(rows * columns + pool ** 2)
            + (near[head, place] if all -> image else far[head, q, k.y * pool + k.x])
    }

    branch window {
        attend all -> image where abs(q.y - k.y) <= half and abs(q.x - k.x) <= half
        score dot(q, window_tokens[head, place]) + bias[head, place]
        normalize none
    }
}
"""

NSA = """
## NSA: the means of past blocks, the past blocks with the best of given scores, and a window, each with a gate.
pattern nsa(n = 24, block = 4, top = 2, size = 6) {
    let blocks = (n - 1) // block + 1
    space tokens[n]
    space means = mean(tokens, block)
    queries tokens
    keys tokens ++ means
    input gate: float[3, batch, heads, n]
    input worth: float[batch, heads, queries, blocks]
    coord tokens.chunk = tokens // block
    coord means.chunk = means
    route picked = topk(top, worth[batch, head, q, k.chunk]) where k.chunk < q.chunk

    branch compressed {
        attend tokens -> means where (k.means + 1) * block <= q + 1
        weight gate[0, batch, head, q]
    }

    branch selected {
        attend tokens -> tokens where k.tokens <= q and (picked or same(chunk))
        weight gate[1, batch, head, q]
    }

    branch window {
        attend tokens -> tokens where 0 <= q - k.tokens < size
        weight gate[2, batch, head, q]
    }
}
"""


def gpsa(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, place: Tensor) -> Tensor:
    """`GPSA.get_attention` of ConViT, for an image of 5 x 4 tokens, with its second normalization."""
    y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(5), torch.arange(4), indexing="ij"))
    right, down = x[None, :] - x[:, None], y[None, :] - y[:, None]
    offsets = torch.stack([right, down, right**2 + down**2], dim=-1).to(q.dtype)
    position = (offsets @ place.T).permute(2, 0, 1).softmax(-1)
    content = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    share = gate.view(1, -1, 1, 1).sigmoid()
    attention = (1 - share) * content + share * position
    return attention / attention.sum(dim=-1, keepdim=True) @ v


def paths(q: Tensor, k: Tensor, v: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """`MambaAttentionAllDouble` of PPMA: row and column hold cumulative sums along the rows and along the columns."""

    def decays(sums: Tensor) -> Tensor:
        """[..., to, from] of [..., position]: the sum between two positions, of either order."""
        between = sums[..., :, None] - sums[..., None, :]
        return between.tril() - between.triu(1)

    grid = (*row.shape[:2], 5, 4)
    in_rows = decays(row.view(grid))  # batch, heads, y, x, x of the key
    in_columns = decays(column.view(grid).transpose(-1, -2))  # batch, heads, x of the key, y, y of the key
    mask = in_rows[:, :, :, :, None, :] + in_columns.permute(0, 1, 3, 4, 2)[:, :, :, None, :, :]
    mask = mask.reshape(*row.shape[:2], 20, 20)
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return (0.5 * (scores + mask).softmax(-1) + 0.5 * (scores + mask.transpose(-1, -2)).softmax(-1)) @ v


def outlook(q: Tensor, k: Tensor, v: Tensor, logits: Tensor) -> Tensor:
    """`OutlookAttention` of VOLO: unfolded values, zeros beyond the border included, weighed and folded again."""
    batch, heads, _, dim = v.shape
    image = v.transpose(-1, -2).reshape(batch, heads * dim, 5, 4)
    windows = unfold(image, 3, padding=1).view(batch, heads, dim, 9, 20).permute(0, 1, 4, 3, 2)
    out = (logits.softmax(-1) @ windows).permute(0, 1, 4, 3, 2).reshape(batch, heads * dim * 9, 20)
    return fold(out, (5, 4), 3, padding=1).view(batch, heads, dim, 20).transpose(-1, -2)


def differential(q: Tensor, k: Tensor, v: Tensor, q2: Tensor, k2: Tensor, mix: Tensor) -> Tensor:
    """`MultiheadDiffAttn` of the Differential Transformer, before its norm."""
    hidden = torch.full((20, 20), -torch.inf, dtype=q.dtype).triu(1)
    first, second = (
        (a @ b.transpose(-1, -2) * a.shape[-1] ** -0.5 + hidden).softmax(-1) for a, b in ((q, k), (q2, k2))
    )
    return (first - mix.view(-1, 1, 1) * second) @ v


def adapter(q: Tensor, k: Tensor, v: Tensor, strength: Tensor) -> Tensor:
    """`IPAttnProcessor` of IP-Adapter."""
    outs = []
    for keys in (slice(7), slice(7, None)):
        scores = q @ k[:, :, keys].transpose(-1, -2) * q.shape[-1] ** -0.5
        outs.append(scores.softmax(-1) @ v[:, :, keys])
    return outs[0] + strength * outs[1]


def aggregated(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    embedding: Tensor,
    temperature: Tensor,
    near: Tensor,
    far: Tensor,
    window_tokens: Tensor,
    bias: Tensor,
) -> Tensor:
    """`AggregatedAttention` of TransNeXt, from its normalized queries and keys, those of its pooled map behind them."""
    batch, heads, _, dim = q.shape

    def windows(x: Tensor) -> Tensor:
        """[batch, heads, 20, 9, dim]: the places around each token, with zeros beyond the border."""
        image = x[:, :, :20].transpose(-1, -2).reshape(batch, heads * dim, 5, 4)
        return unfold(image, 3, padding=1).view(batch, heads, dim, 9, 20).permute(0, 1, 4, 3, 2)

    inside = unfold(torch.ones(1, 1, 5, 4, dtype=q.dtype), 3, padding=1)[0].T
    length = (inside.sum(dim=-1, keepdim=True) + 4).log()
    scaled = (q + embedding[:, None]) * softplus(temperature)[:, None, None] * length
    local = (windows(k) @ scaled.unsqueeze(-1)).squeeze(-1) + near[:, None]
    pooled = scaled @ k[:, :, 20:].transpose(-1, -2) + far
    p = torch.cat([local.masked_fill(inside == 0, -torch.inf), pooled], dim=-1).softmax(-1)
    dynamic = q @ window_tokens.transpose(-1, -2) + bias[:, None] + p[..., :9]
    return (dynamic.unsqueeze(-2) @ windows(v)).squeeze(-2) + p[..., 9:] @ v[:, :, 20:]


def nsa(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, worth: Tensor) -> Tensor:
    """Native Sparse Attention by its formulas: the sum of three gated attentions."""
    shared = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(shared, dim=1) for x in (k, v))
    i, j = torch.arange(24)[:, None], torch.arange(24)
    means = [x.view(*x.shape[:2], 6, 4, -1).mean(dim=3) for x in (k, v)]
    past = torch.arange(6) < i // 4
    best = worth.masked_fill(~past, -torch.inf).topk(2, dim=-1)
    picked = torch.zeros_like(worth, dtype=torch.bool).scatter_(-1, best.indices, best.values > -torch.inf)
    whole = (torch.arange(6) + 1) * 4 <= i + 1
    chosen = (picked[..., j // 4] | (j // 4 == i // 4)) & (j <= i)
    near = (j <= i) & (i - j < 6)
    out = torch.zeros_like(q)
    for number, (keys, values, attends) in enumerate(((*means, whole), (k, v, chosen), (k, v, near))):
        scores = (q @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~attends, -torch.inf)
        empty = ~attends.any(-1, keepdim=True)
        p = scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)
        out = out + gate[number][..., None] * (p @ values)
    return out


class Paper(NamedTuple):
    """A pattern, the sizes of its tensors, and what its model computes."""

    text: str
    queries: int
    keys: int
    inputs: Mapping[str, tuple[int, ...]]
    """Their shapes, for 2 batch entries of 2 heads."""
    expected: Callable[..., Tensor]
    key_heads: int = 2

    def check(self, backend: str, dtype: torch.dtype = torch.float64, dim: int = 8) -> None:
        """Holds the output and all gradients against the model's, in float64."""
        generator = torch.Generator().manual_seed(3)

        def leaf(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        exact = [leaf(2, 2, self.queries, dim), *(leaf(2, self.key_heads, self.keys, dim) for _ in "kv")]
        named = {name: leaf(*shape) for name, shape in self.inputs.items()}
        ((_, pattern),) = maskdsl.parse(self.text).items()
        results = []
        for kind, compute in ((torch.float64, self.expected), (dtype, pattern.bind(heads=2).compile(backend))):
            leaves = [x.to(kind).requires_grad_() for x in (*exact, *named.values())]
            out = compute(*leaves[:3], **dict(zip(named, leaves[3:], strict=True)))
            grads = torch.autograd.grad(out.double().sin().sum(), leaves, allow_unused=True, materialize_grads=True)
            results.append([out, *grads])
        room = {"atol": 1e-9, "rtol": 1e-9} if dtype is torch.float64 else {"atol": 2e-5, "rtol": 2e-4}
        for name, found, wanted in zip(("out", *"qkv", *named), *reversed(results), strict=True):
            torch.testing.assert_close(found.double(), wanted, **room, msg=lambda told, name=name: f"{name}: {told}")


PLACES = {"window_tokens": (2, 9, 8), "bias": (2, 9)}
"""What TransNeXt learns of the places of a window."""

PAPERS = {
    "gpsa": Paper(GPSA, 20, 20, {"gate": (2,), "place": (2, 3)}, gpsa),
    "paths": Paper(PPMA, 20, 20, {"row": (2, 2, 20), "column": (2, 2, 20)}, paths),
    "outlook": Paper(VOLO, 20, 20, {"logits": (2, 2, 20, 9, 9)}, outlook),
    "differential": Paper(DIFFERENTIAL, 20, 20, {"q2": (2, 2, 20, 8), "k2": (2, 2, 20, 8), "mix": (2,)}, differential),
    "adapter": Paper(ADAPTER, 20, 11, {"strength": ()}, adapter),
    "aggregated": Paper(
        TRANSNEXT,
        20,
        24,
        {"embedding": (2, 8), "temperature": (2,), "near": (2, 9), "far": (2, 20, 4), **PLACES},
        aggregated,
    ),
    "nsa": Paper(NSA, 24, 24, {"gate": (3, 2, 2, 24), "worth": (2, 2, 24, 6)}, nsa, key_heads=1),
}

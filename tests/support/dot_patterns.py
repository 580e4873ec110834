"""Patterns whose scores multiply vectors, and what they compute: ported from the code of papers, in plain torch.

Every oracle takes q, k and v [batch, heads, tokens, dim] and the inputs, and returns the output.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from tests.catalogue.compared import EXAMPLES
from tests.catalogue.sources import scores_of_text


class Case(NamedTuple):
    """A pattern, what it is bound with, the shapes of its inputs, and what it computes."""

    text: str
    parameters: Mapping[str, int]
    heads: int
    key_heads: int
    inputs: Mapping[str, tuple[int, ...]]
    oracle: Callable[..., Tensor]
    dim: int = 8
    tokens: int = 37
    value_dim: int = 8


BATCH = 2


def softmax(scores: Tensor, attends: Tensor, v: Tensor) -> Tensor:
    return scores.masked_fill(~attends, -torch.inf).softmax(-1).nan_to_num(0) @ v


def distances(n: int) -> Tensor:
    positions = torch.arange(n)
    return positions[:, None] - positions


# DeBERTa-v2 (microsoft/DeBERTa, disentangled_attention.py), with the buckets as an input


def deberta(q: Tensor, k: Tensor, v: Tensor, c2p: Tensor, p2c: Tensor) -> Tensor:
    """Content to position by query rows, position to content by key rows, transposed."""
    n, span = q.shape[2], c2p.shape[1] // 2
    there, back = ((sign * distances(n) + span).clamp(0, 2 * span - 1) for sign in (1, -1))
    shape = *q.shape[:2], n, n
    scores = q @ k.mT + (q @ c2p.mT).gather(-1, there.expand(shape)) + (k @ p2c.mT).gather(-1, back.expand(shape)).mT
    return softmax(scores * (3 * q.shape[-1]) ** -0.5, torch.ones(n, n, dtype=torch.bool), v)


# Vectors and biases of the places of a 3 x 3 window in its scores, beside a query embedding and a scale a head

PLACED = """
pattern placed(h, w) {
    space image[y = h, x = w]
    input embedding: float[heads, dim]
    input temperature: float[heads]
    input tokens: float[heads, 3, 3, dim]
    input bias: float[heads, 3, 3]
    attend window((3, 3))
    let scaled = dot(q + embedding[head], k) * temperature[head]
    score scaled + dot(q, tokens[head, k.y - q.y + 1, k.x - q.x + 1]) + bias[head, k.y - q.y + 1, k.x - q.x + 1]
}
"""


def placed(
    q: Tensor, k: Tensor, v: Tensor, embedding: Tensor, temperature: Tensor, tokens: Tensor, bias: Tensor
) -> Tensor:
    """Neighbours by `unfold`, padding masked."""
    batch, heads, n, dim = q.shape
    h, w = 5, n // 5

    def unfolded(x: Tensor) -> Tensor:  # [batch, heads, tokens, 9, dim]
        image = x.mT.reshape(batch, heads * dim, h, w)
        windows = torch.nn.functional.unfold(image, 3, padding=1)
        return windows.view(batch, heads, dim, 9, n).permute(0, 1, 4, 3, 2)

    scaled = (q + embedding[:, None]) * temperature[:, None, None]
    scores = torch.einsum("bhnd,bhnwd->bhnw", scaled, unfolded(k))
    scores = scores + q @ tokens.flatten(1, 2).mT + bias.flatten(1)[:, None]
    inside = torch.nn.functional.unfold(torch.ones(1, 1, h, w, dtype=q.dtype), 3, padding=1)[0].T > 0
    p = scores.masked_fill(~inside, -torch.inf).softmax(-1)
    return torch.einsum("bhnw,bhnwd->bhnd", p, unfolded(v))


# VITS (jaywalnut310/vits, attentions.py) and Shaw et al.: vectors of clipped distances for keys, by pairs

SHAW = """
pattern shaw(n, reach) {
    space tokens[n]
    input keys: float[2 * reach + 1, dim]
    attend causal
    score s + dot(q, keys[clamp(k - q, -reach, reach) + reach]) * 0.5
}
"""


def shaw(q: Tensor, k: Tensor, v: Tensor, keys: Tensor) -> Tensor:
    n, reach = q.shape[2], keys.shape[0] // 2
    vectors = keys[(-distances(n)).clamp(-reach, reach) + reach]
    scores = q @ k.mT * q.shape[-1] ** -0.5 + torch.einsum("bhid,ijd->bhij", q, vectors) * 0.5
    return softmax(scores, distances(n) >= 0, v)


WINDOWED = """
pattern windowed(n, reach) {
    space tokens[n]
    input keys: float[2 * reach + 1, dim]
    attend all -> all
    score (dot(q, k) + dot(q, keys[k - q + reach] if abs(k - q) <= reach else 0.0)) * 0.4
}
"""


def windowed(q: Tensor, k: Tensor, v: Tensor, keys: Tensor) -> Tensor:
    """As VITS: beyond the window the vectors are zero."""
    n, reach = q.shape[2], keys.shape[0] // 2
    padded = torch.nn.functional.pad(keys, (0, 0, n - reach - 1, n - reach - 1))
    vectors = padded[n - 1 - distances(n)]
    scores = q @ k.mT + torch.einsum("bhid,ijd->bhij", q, vectors)
    return softmax(scores * 0.4, torch.ones(n, n, dtype=torch.bool), v)


# Values: VITS, Shaw et al.

VITS = """
pattern vits(n, reach) {
    space tokens[n]
    input emb_rel_k: float[2 * reach + 1, dim]
    input emb_rel_v: float[2 * reach + 1, dim]
    attend all -> all
    score (dot(q, k) + dot(q, emb_rel_k[k - q + reach] if abs(k - q) <= reach else 0.0)) * 0.4
    value v + (emb_rel_v[k - q + reach] if abs(k - q) <= reach else 0.0)
}
"""


def vits(q: Tensor, k: Tensor, v: Tensor, emb_rel_k: Tensor, emb_rel_v: Tensor) -> Tensor:
    n, reach = q.shape[2], emb_rel_k.shape[0] // 2
    keys, values = (torch.nn.functional.pad(x, (0, 0, n - reach - 1, n - reach - 1)) for x in (emb_rel_k, emb_rel_v))
    place = n - 1 - distances(n)
    p = ((q @ k.mT + torch.einsum("bhid,ijd->bhij", q, keys[place])) * 0.4).softmax(-1)
    return p @ v + torch.einsum("bhij,ijd->bhid", p, values[place])


SHAW_VALUES = """
pattern shaw_values(n, reach) {
    space tokens[n]
    input keys: float[2 * reach + 1, dim]
    input values: float[heads, 2 * reach + 1, 6]
    attend causal
    score s + dot(q, keys[clamp(k - q, -reach, reach) + reach]) * 0.5
    weight 0.5 if k % 2 == 0 else 2.0
    value 1.5 * v + values[head, clamp(k - q, -reach, reach) + reach] / 2.0
}
"""


def shaw_values(q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    n, reach = q.shape[2], keys.shape[0] // 2
    place = (-distances(n)).clamp(-reach, reach) + reach
    scores = q @ k.mT * q.shape[-1] ** -0.5 + torch.einsum("bhid,ijd->bhij", q, keys[place]) * 0.5
    p = scores.masked_fill(distances(n) < 0, -torch.inf).softmax(-1)
    p = p * torch.where(torch.arange(n) % 2 == 0, 0.5, 2.0)
    return 1.5 * (p @ v) + torch.einsum("bhij,hijd->bhid", p, values[:, place]) / 2


# Values of every kind: factors of the query and of the key, vectors of distances and of tokens

STRENGTHS = """
pattern strengths(h, w) {
    space image[y = h, x = w]
    input key_table: float[heads, 3, 3, dim]
    input query_table: float[heads, 3, 3, dim]
    input value_table: float[heads, 3, 3, dim]
    input strength: float[image]
    input place: float[image, dim]
    attend blocks((2, 2))
    let dy = k.y - q.y + 1
    let dx = k.x - q.x + 1
    score s + dot(q, query_table[head, dy, dx]) + dot(k, key_table[head, dy, dx])
    value v * k.strength + q.strength * value_table[head, dy, dx] + place[q] - place[k]
}
"""


def strengths(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    key_table: Tensor,
    query_table: Tensor,
    value_table: Tensor,
    strength: Tensor,
    place: Tensor,
) -> Tensor:
    """In windows of 2 x 2, by formulas."""
    n, w = q.shape[2], 7
    y, x = torch.arange(n) // w, torch.arange(n) % w
    same = (y[:, None] // 2 == y // 2) & (x[:, None] // 2 == x // 2)
    dy, dx = ((a - a[:, None]).clamp(-1, 1) + 1 for a in (y, x))
    scores = q @ k.mT * q.shape[-1] ** -0.5 + torch.einsum("bhid,hijd->bhij", q, query_table[:, dy, dx])
    scores = scores + torch.einsum("bhjd,hijd->bhij", k, key_table[:, dy, dx])
    p = scores.masked_fill(~same, -torch.inf).softmax(-1)
    rows = torch.einsum("bhij,hijd->bhid", p, value_table[:, dy, dx]) * strength[:, None]
    return p @ (v * strength[:, None]) + rows + place - p @ place


# Products of every other kind, in one score

EVERYTHING = """
pattern everything(n, width) {
    space tokens[n]
    input iq: float[batch, heads, tokens, width]
    input ik: float[batch, tokens, width]
    input near: float[n, dim]
    input far: float[n, dim]
    input gate: float[tokens]
    attend window(20)
    let content = dot(max(2.0 * q, -0.2), k * k.gate) / 8.0
    score s + content + 0.5 * dot(iq[batch, head, q], k.ik) - dot(k, far[abs(q - k)]) + dot(q, q) * 0.01
    score tanh(s) + dot(near[abs(q - k)], far[(q + k) % n]) * 0.1 + dot(-iq[batch, head, q], iq[batch, head, 0])
}
"""


def everything(
    q: Tensor, k: Tensor, v: Tensor, iq: Tensor, ik: Tensor, near: Tensor, far: Tensor, gate: Tensor
) -> Tensor:
    n, delta = q.shape[2], distances(q.shape[2])
    apart = delta.abs()
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    s = q @ k.mT * q.shape[-1] ** -0.5 + (2 * q).clamp(min=-0.2) @ (k * gate[:, None]).mT / 8
    s = s + 0.5 * iq @ ik[:, None].mT - torch.einsum("bhjd,ijd->bhij", k, far[apart])
    s = (s + q.square().sum(-1, keepdim=True) * 0.01).tanh()
    both = torch.einsum("ijd,ijd->ij", near[apart], far[(torch.arange(n)[:, None] + torch.arange(n)) % n])
    s = s + both * 0.1 - (iq * iq[:, :, :1]).sum(-1, keepdim=True)
    return softmax(s, apart <= 10, v)


CASES = {
    "transformer_xl": Case(
        (EXAMPLES / "language/transformer_xl.attn").read_text(),
        {"n": 37},
        3,
        3,
        {"u": (3, 8), "w": (3, 8), "r": (3, 73, 8)},
        scores_of_text.transformer_xl,
    ),
    "deberta": Case(
        (EXAMPLES / "language/deberta.attn").read_text(),
        {"n": 37, "span": 5},
        2,
        2,
        {"c2p": (2, 10, 8), "p2c": (2, 10, 8)},
        deberta,
    ),
    "placed": Case(
        PLACED,
        {"h": 5, "w": 7},
        2,
        2,
        {"embedding": (2, 8), "temperature": (2,), "tokens": (2, 3, 3, 8), "bias": (2, 3, 3)},
        placed,
        tokens=35,
    ),
    "shaw": Case(SHAW, {"n": 37, "reach": 4}, 2, 2, {"keys": (9, 8)}, shaw),
    "windowed": Case(WINDOWED, {"n": 37, "reach": 3}, 2, 2, {"keys": (7, 8)}, windowed),
    "vits": Case(VITS, {"n": 37, "reach": 3}, 2, 2, {"emb_rel_k": (7, 8), "emb_rel_v": (7, 8)}, vits),
    "shaw_values": Case(
        SHAW_VALUES, {"n": 37, "reach": 4}, 2, 2, {"keys": (9, 8), "values": (2, 9, 6)}, shaw_values, value_dim=6
    ),
    "strengths": Case(
        STRENGTHS,
        {"h": 5, "w": 7},
        2,
        2,
        {
            **dict.fromkeys(("key_table", "query_table", "value_table"), (2, 3, 3, 8)),
            "strength": (35,),
            "place": (35, 8),
        },
        strengths,
        tokens=35,
    ),
    "everything": Case(
        EVERYTHING,
        {"n": 37, "width": 6},
        4,
        2,
        {"iq": (BATCH, 4, 37, 6), "ik": (BATCH, 37, 6), "near": (37, 8), "far": (37, 8), "gate": (37,)},
        everything,
    ),
}


def tensors(case: Case, seed: int = 0) -> dict[str, Tensor]:
    """q, k, v and the inputs, in float64."""
    random = torch.Generator().manual_seed(seed)
    shapes = {
        "q": (BATCH, case.heads, case.tokens, case.dim),
        "k": (BATCH, case.key_heads, case.tokens, case.dim),
        "v": (BATCH, case.key_heads, case.tokens, case.value_dim),
        **case.inputs,
    }
    return {name: torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}

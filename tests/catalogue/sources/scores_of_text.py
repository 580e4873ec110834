"""Scores with positions, sums and differences of softmaxes, and a softmax over queries, of released code and papers."""

import math

import numpy as np
import torch
from torch import Tensor

from tests.catalogue.compared import Computes


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.repeat_interleave(q.shape[1] // k.shape[1], dim=1).mT * q.shape[-1] ** -0.5


def alibi(q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> Tensor:
    """Released code: ofirpress/attention_with_linear_biases, fairseq/models/transformer.py, 3b7c2ec.

    The bias is the slope times the position of the key, which is the same in a softmax.
    """
    n = q.shape[2]
    bias = slope[:, None, None] * torch.arange(n)
    mask = torch.full((n, n), -torch.inf, dtype=q.dtype).triu(1) + bias
    return (q @ k.mT * q.shape[-1] ** -0.5 + mask).softmax(-1) @ v


def slopes(heads: int) -> list[float]:
    """Those of the released models, `get_slopes` of the same file."""
    if math.log2(heads).is_integer():
        start = 2 ** (-(2 ** -(math.log2(heads) - 3)))
        return [start * start**i for i in range(heads)]
    closest = 2 ** math.floor(math.log2(heads))
    return slopes(closest) + slopes(2 * closest)[0::2][: heads - closest]


def transformer_xl(q: Tensor, k: Tensor, v: Tensor, u: Tensor, w: Tensor, r: Tensor) -> Tensor:
    """Released code: kimiyoung/transformer-xl, pytorch/mem_transformer.py, 0110210.

    `RelPartialLearnableMultiHeadAttn`, with vectors of the distances n - 1 to 0; `_rel_shift` turns columns by distance
    into columns by key.
    """
    n = q.shape[2]
    back = r[:, n - 1 :].flip(1)
    content = torch.einsum("bnid,bnjd->bnij", q + u[:, None], k)
    by_distance = torch.einsum("bnid,njd->bnij", q + w[:, None], back)
    padded = torch.cat([by_distance.new_zeros(*by_distance.shape[:3], 1), by_distance], dim=-1)
    shifted = padded.view(*q.shape[:2], n + 1, n)[:, :, 1:].reshape(by_distance.shape)
    scores = (content + shifted) * q.shape[-1] ** -0.5
    return scores.masked_fill(torch.ones(n, n, dtype=torch.bool).triu(1), -torch.inf).softmax(-1) @ v


def affine(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """No public code: the paper's text."""
    n = q.shape[2]
    attends = torch.ones(n, n, dtype=torch.bool).tril()
    p = scores(q, k).masked_fill(~attends, -torch.inf).softmax(-1)
    mixed = (alpha[..., None] * p + beta[..., None]) * attends
    return mixed @ v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)


def dependency(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """No public code: the paper's text."""
    sent = (k @ q.mT * q.shape[-1] ** -0.5).softmax(-1)
    return sent.mT @ v


def differential(q: Tensor, k: Tensor, v: Tensor, q2: Tensor, k2: Tensor, lambda_: Tensor) -> Tensor:
    """Released code: microsoft/unilm, Diff-Transformer/multihead_diffattn.py, 3aca927.

    Heads stand in pairs, and the second of a pair is taken away from the first.
    """
    n = q.shape[2]
    twice_q, twice_k = (torch.stack(pair, dim=2).flatten(1, 2) for pair in ((q, q2), (k, k2)))
    weights = twice_q * q.shape[-1] ** -0.5 @ twice_k.mT
    weights = (weights + torch.full((n, n), -torch.inf, dtype=q.dtype).triu(1)).softmax(-1)
    weights = weights.unflatten(1, (q.shape[1], 2))
    return (weights[:, :, 0] - lambda_[:, None, None] * weights[:, :, 1]) @ v


def relative(heads: int, dim: int, n: int) -> dict[str, tuple[int, ...]]:
    return {"u": (heads, dim), "w": (heads, dim), "r": (heads, 2 * n - 1, dim)}


MIXED = {"alpha": (2, 4, 21), "beta": (2, 4, 21)}
PAIRED = {"q2": (2, 2, 20, 8), "k2": (2, 2, 20, 8), "lambda_": (2,)}
ROWS = [
    Computes("language/alibi", "alibi", {"n": 21}, alibi, heads=3, inputs={"slope": (3,)}),
    Computes(
        *("language/alibi", "alibi", {"n": 21}, alibi), heads=6, inputs={"slope": torch.tensor(np.array(slopes(6)))}
    ),
    Computes(
        *("language/transformer_xl", "transformer_xl", {"n": 21}, transformer_xl), heads=2, inputs=relative(2, 8, 21)
    ),
    Computes("language/transformer_xl", "transformer_xl", {"n": 1}, transformer_xl, inputs=relative(1, 8, 1)),
    Computes("language/affine", "affine", {"n": 21}, affine, heads=4, key_heads=2, inputs=MIXED),
    Computes("language/dependency", "dependency", {"n": 21}, dependency, heads=2),
    Computes("language/differential", "differential", {"n": 20}, differential, heads=2, inputs=PAIRED),
]

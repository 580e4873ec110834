"""Blocks of keys by given scores, or at given resolutions."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from tests.catalogue.compared import Computes, Row, Selects
from tests.catalogue.selecting import best, softmax


def seer(q: np.ndarray, k: np.ndarray, n: int, block: int, top: int, dense: int, gate: np.ndarray) -> np.ndarray:
    """Released code: microsoft/SeerAttention, seer_attn/modules/common.py, aba03e3.

    Its `topk` counts future blocks too, at -1e9.
    """
    own = np.arange(n) // block
    blocks = own[-1] + 1
    chosen = best(np.where(np.tri(blocks, dtype=bool), gate, -1e9), top)
    chosen[:, max(blocks - dense, 0) :] = True
    return np.tril(np.tril(chosen)[:, own][..., own])


def seer_above(
    q: np.ndarray, k: np.ndarray, n: int, block: int, threshold: float, dense: int, gate: np.ndarray
) -> np.ndarray:
    """Released code: microsoft/SeerAttention, seer_attn/modules/common.py, aba03e3.

    The gate's softmax is in seer_attn/prefill_sparse/attn_gate.py.
    """
    own = np.arange(n) // block
    blocks = own[-1] + 1
    chosen = softmax(gate, np.tri(blocks, dtype=bool)) > threshold
    chosen[:, max(blocks - dense, 0) :] = True
    return np.tril(np.tril(chosen)[:, own][..., own])


def seer_decode(q: np.ndarray, k: np.ndarray, n: int, block: int, top: int, gate: np.ndarray) -> np.ndarray:
    """Released code: microsoft/SeerAttention, seer_attn/decode_sparse/attn_gate_inf.py, aba03e3.

    With every token as the last one in turn: its block is forced behind the choice.
    """
    own = np.arange(n) // block
    past = np.arange(own[-1] + 1) <= own[:, None]
    chosen = best(np.where(past, gate, -1e20), top) & past
    chosen[:, np.arange(n), own] = True
    return np.tril(chosen[..., own]).repeat(len(q) // len(k), axis=0)


def pyramid(q: Tensor, k: Tensor, v: Tensor, level: Tensor, block: int, levels: int) -> Tensor:
    """Released code: ziplab/Pyramid-Sparse-Attention, src/psa_triton/kernels/psa_kernel.py, be122cf.

    Without the copies of the last token that it pads keys with: means are of the tokens that there are.
    """
    n = k.shape[2]
    own = torch.arange(n) // block
    scores, values = [], []
    for depth in range(levels):
        pools = [slice(at, min(at + 2**depth, n)) for at in range(0, n, 2**depth)]
        pooled_k, pooled_v = (torch.stack([x[:, :, pool].mean(dim=2) for pool in pools], dim=2) for x in (k, v))
        bias = torch.tensor([pool.stop - pool.start for pool in pools], dtype=q.dtype).log()
        blocks = torch.tensor([pool.start // block for pool in pools])
        score = q @ pooled_k.mT * q.shape[-1] ** -0.5 + bias
        scores.append(score.masked_fill(level[:, :, own][..., blocks] != depth, -torch.inf))
        values.append(pooled_v)
    score = torch.cat(scores, dim=-1)
    some = (score > -torch.inf).any(dim=-1, keepdim=True)
    return score.masked_fill(~some, 0).softmax(-1) @ torch.cat(values, dim=2) * some


def levels_of(blocks: int, levels: int) -> Tensor:
    """A level of each block for each block of queries, with some that have none, for two batch entries and heads."""
    return torch.as_tensor(np.random.default_rng(0).integers(-1, levels, (2, 2, blocks, blocks)))


ROWS: list[Row] = [
    *(
        Selects(
            "routing/seer",
            "seer",
            {"n": n, "block": 6, "top": top, "dense": dense},
            seer,
            heads=4,
            key_heads=2,
            inputs={"gate": (2, 4, -(-n // 6), -(-n // 6))},
            batched=frozenset({"gate"}),
        )
        for n, top, dense in ((41, 2, 0), (41, 2, 2), (29, 9, 0), (5, 1, 2))
    ),
    *(
        Selects(
            "routing/seer",
            "seer_decode",
            {"n": n, "block": 6, "top": top},
            seer_decode,
            heads=4,
            key_heads=2,
            inputs={"gate": (2, 2, n, -(-n // 6))},
            batched=frozenset({"gate"}),
        )
        for n, top in ((41, 2), (29, 9))
    ),
    *(
        Selects(
            "routing/seer",
            "seer_above",
            {"n": n, "block": 6, "threshold": threshold, "dense": dense},
            seer_above,
            heads=4,
            key_heads=2,
            inputs={"gate": (2, 4, -(-n // 6), -(-n // 6))},
            batched=frozenset({"gate"}),
        )
        for n, threshold, dense in ((41, 0.1, 0), (41, 0.3, 2), (5, 0.9, 0))
    ),
    *(
        Computes(
            "routing/pyramid",
            "pyramid",
            {"n": n, "block": block, "levels": levels},
            partial(pyramid, block=block, levels=levels),
            heads=2,
            inputs={"level": levels_of(-(-n // block), levels)},
        )
        for n, block, levels in ((48, 8, 4), (37, 8, 3), (45, 16, 4), (3, 5, 3))
    ),
]

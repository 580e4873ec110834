"""Single keys: the best of each query, or columns and diagonals for all queries."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from tests.catalogue.compared import Computes, Row, Selects
from tests.catalogue.selecting import best, keys_by_head


def knn(q: np.ndarray, k: np.ndarray, n: int, top: int) -> np.ndarray:
    """Released code: damo-cv/KVT, KNN_VisionTransformer.py, fd84745."""
    return best(q @ keys_by_head(q, k).swapaxes(1, 2), top)


def kca(q: Tensor, k: Tensor, v: Tensor, top: int) -> Tensor:
    """No public code: the paper's text."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    scores = q @ k.mT * q.shape[-1] ** -0.5
    least = scores.topk(min(top, scores.shape[-1])).values[..., -1:]
    near = scores.masked_fill(scores < least, -torch.inf)
    context = q @ k.mean(dim=2, keepdim=True).mT * q.shape[-1] ** -0.5
    return torch.cat([near, context], dim=-1).softmax(-1) @ torch.cat([v, v.mean(dim=2, keepdim=True)], dim=2)


def sparsifiner(q: np.ndarray, k: np.ndarray, n: int, top: int, connect: np.ndarray) -> np.ndarray:
    """Released code: lim142857/Sparsifiner, src/models/sparsifiner.py, 9a11e26.

    `MaskPredictor`, whose first row, that of the class token, is full.
    """
    chosen = best(connect, top)
    chosen[:, 0] = True
    return chosen


def vertical_slash(
    q: np.ndarray,
    k: np.ndarray,
    n: int,
    columns: int,
    diagonals: int,
    column_score: np.ndarray,
    diagonal_score: np.ndarray,
) -> np.ndarray:
    """Released code: microsoft/MInference, minference/modules/minference_forward.py, fb56c91.

    The mask of `gather_last_q_vertical_slash_topk_v4`; its scores of diagonals go from the farthest to the nearest.
    """
    chosen = np.zeros((len(q), n, n), dtype=bool)
    for head in range(len(q)):
        worst = np.argsort(column_score[head], kind="stable")[: max(n - columns, 0)]
        chosen[head] = True
        chosen[head][:, worst] = False
        farthest_first = diagonal_score[head, ::-1]
        for at in np.argsort(-farthest_first, kind="stable")[:diagonals]:
            chosen[head] |= np.eye(n, k=at - (n - 1), dtype=bool)
    return np.tril(chosen)


def forced(shape: tuple[int, ...], count: int) -> np.ndarray:
    """Random scores, infinite for the first `count`: the released code forces sinks and near diagonals so."""
    scores = np.random.default_rng(0).normal(size=shape)
    scores[..., :count] = np.inf
    return scores


GROUPED = {"heads": 4, "key_heads": 2}
ROWS: list[Row] = [
    *(Selects("routing/knn", "knn", {"n": n, "top": top}, knn, **GROUPED) for n, top in ((29, 5), (3, 7), (33, 1))),
    *(Computes("routing/knn", "kca", {"n": n, "top": 4}, partial(kca, top=4), **GROUPED) for n in (27, 3)),
    *(
        Selects(
            "routing/sparsifiner",
            "sparsifiner",
            {"n": n, "top": 5},
            sparsifiner,
            inputs={"connect": (2, 4, n, n)},
            batched=frozenset({"connect"}),
            **GROUPED,
        )
        for n in (29, 4)
    ),
    *(
        Selects(
            "routing/vertical_slash",
            "vertical_slash",
            {"n": n, "columns": 5, "diagonals": 4},
            vertical_slash,
            inputs={"column_score": forced((2, 4, n), 2), "diagonal_score": forced((2, 4, n), 1)},
            batched=frozenset({"column_score", "diagonal_score"}),
            **GROUPED,
        )
        for n in (37, 3)
    ),
]

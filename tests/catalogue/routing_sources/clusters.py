"""Clusters of tokens: by centroids, or given."""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from tests.catalogue.compared import Computes, Row, Selects
from tests.catalogue.selecting import best, keys_by_head


def clusters(q: np.ndarray, k: np.ndarray, n: int, centroids: np.ndarray) -> np.ndarray:
    """By definition."""
    own = [((x[:, :, None] - centroids[:, None]) ** 2).sum(axis=-1).argmin(axis=-1) for x in (q, keys_by_head(q, k))]
    return own[0][:, :, None] == own[1][:, None]


def catanet(q: Tensor, k: Tensor, v: Tensor, group: int, cluster: Tensor) -> Tensor:
    """Released code: EquationWalker/CATANet, basicsr/archs/catanet_arch.py, fd2222f.

    `IASA` without what it adds of the global centres. Padded with the last tokens once more, in reverse.
    """
    batch, n, dim = len(q), *q.shape[2:]
    place = cluster.argsort(dim=1, stable=True)
    q, k, v = (torch.stack([x[entry][:, place[entry]] for entry in range(batch)]) for x in (q, k, v))
    group = min(n, group)
    groups = -(-n // group)
    missing = groups * group - n
    q = torch.cat([q, q[:, :, n - missing :].flip(2)], dim=2).unflatten(2, (groups, group))
    k, v = (torch.cat([x, x[:, :, n - missing - group :].flip(2)], dim=2) for x in (k, v))
    k, v = (x.unfold(2, 2 * group, group).mT for x in (k, v))
    out = ((q @ k.mT * dim**-0.5).softmax(-1) @ v).flatten(2, 3)[:, :, :n]
    return torch.stack([out[entry][:, place[entry].argsort()] for entry in range(batch)])


def catanet_centres(q: Tensor, k: Tensor, v: Tensor, group: int, cluster: Tensor) -> Tensor:
    """Released code: EquationWalker/CATANet, basicsr/archs/catanet_arch.py, fd2222f.

    `IASA`, with the keys and values of centres behind those of tokens.
    """
    n = q.shape[2]
    centres_k, centres_v = k[:, :, n:], v[:, :, n:]
    central = (q @ centres_k.mT * q.shape[-1] ** -0.5).softmax(-1) @ centres_v
    return catanet(q, k[:, :, :n], v[:, :, :n], group, cluster) + central


def clustered(q: Tensor, k: Tensor, v: Tensor, cluster: Tensor, clusters: int) -> Tensor:
    """Released code: idiap/fast-transformers, fast_transformers/attention/clustered_attention.py, 2ad36b9."""
    member = (cluster[:, None, :, None] == torch.arange(clusters)).to(q.dtype)
    counts = member.sum(dim=2)[..., None]
    grouped = member.mT @ q / counts.clamp(min=1)
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    return (grouped @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v * (counts > 0)


def routing_transformer(q: Tensor, k: Tensor, v: Tensor, centroids: Tensor, size: int) -> Tensor:
    """Released code: lucidrains/routing-transformer, routing_transformer/routing_transformer.py, 3f6c461.

    `KmeansAttention`, and of its `scatter_mean` the sum. Behind the keys of tokens stand the memory keys.
    """
    n = q.shape[2]
    (k, memory_k), (v, memory_v) = ((x[:, :, :n], x[:, :, n:, None]) for x in (k, v))
    similar = (normalize(x, dim=-1) @ centroids.mT for x in (q, k))
    asking, answering = (each.topk(min(size, n), dim=2).indices.mT for each in similar)
    q, k, v = (
        x[:, :, None].take_along_dim(at[..., None], 3) for x, at in ((q, asking), (k, answering), (v, answering))
    )
    k, v = torch.cat([memory_k, k], dim=3), torch.cat([memory_v, v], dim=3)
    later = pad(asking[..., None] < answering[..., None, :], (1, 0))
    dots = (q @ k.mT * q.shape[-1] ** -0.5).masked_fill(later, -torch.finfo(q.dtype).max)
    found = (dots.softmax(-1) @ v).flatten(2, 3)
    rows = asking.flatten(2, 3)[..., None].expand_as(found)
    return torch.zeros(*found.shape[:2], n, found.shape[-1], dtype=found.dtype).scatter_add(2, rows, found)


def routing_transformer_union(
    q: np.ndarray, k: np.ndarray, n: int, clusters: int, size: int, centroids: np.ndarray
) -> np.ndarray:
    """Released code: lucidrains/routing-transformer, routing_transformer/routing_transformer.py, 3f6c461.

    The pairs that one of its clusters has, without the memory keys.
    """
    unit = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, keys_by_head(q, k)))
    asking, answering = (best(centroids @ x.swapaxes(1, 2), size) for x in unit)
    return (asking[..., None] & answering[..., None, :]).any(axis=1) & np.tri(n, dtype=bool)


def drawn(clusters: int, n: int) -> Tensor:
    """A cluster of each token, for two batch entries."""
    return torch.as_tensor(np.random.default_rng(0).integers(0, clusters, (2, n)))


ROWS: list[Row] = [
    *(
        Selects("routing/clusters", "clusters", {"n": n}, clusters, 4, 2, inputs={"centroids": (4, 5, 16)})
        for n in (33, 3)
    ),
    *(
        Computes(
            "routing/catanet",
            "catanet",
            {"n": n, "group": group},
            partial(catanet, group=group),
            heads=2,
            inputs={"cluster": drawn(5, n)},
        )
        for n, group in ((45, 8), (48, 8), (29, 16), (5, 8))
    ),
    *(
        Computes(
            "routing/catanet",
            "catanet_centres",
            {"n": n, "group": 8, "centres": 6},
            partial(catanet_centres, group=8),
            heads=2,
            inputs={"cluster": drawn(5, n)},
        )
        for n in (45, 5)
    ),
    *(
        Computes(
            "routing/clustered",
            "clustered",
            {"n": n, "clusters": 6},
            partial(clustered, clusters=6),
            heads=4,
            key_heads=2,
            inputs={"cluster": drawn(6, n)},
        )
        for n in (37, 5)
    ),
    *(
        Selects(
            "routing/routing_transformer",
            "routing_transformer_union",
            {"n": n, "clusters": 3, "size": 11},
            routing_transformer_union,
            heads=4,
            key_heads=2,
            inputs={"centroids": (4, 3, 16)},
            normalized=True,
        )
        for n in (37, 7)
    ),
    *(
        Computes(
            "routing/routing_transformer",
            "routing_transformer",
            {"n": n, "clusters": 3, "size": 11},
            partial(routing_transformer, size=11),
            heads=2,
            inputs={"centroids": (2, 3, 8)},
        )
        for n in (37, 7)
    ),
]

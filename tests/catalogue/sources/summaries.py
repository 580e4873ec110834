"""Keys that stand for a block of tokens."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers.models.longt5 import modeling_longt5

from tests.catalogue.compared import Attends, Computes
from tests.catalogue.library import Given, joined, projecting, split


def combiner_fixed(heads: int, n: int, block: int) -> np.ndarray:
    """No public code: the paper's text."""
    number = np.arange(n) // block
    own = (number[:, None] == number) & np.tri(n, dtype=bool)
    return np.concatenate([own, np.arange(number[-1] + 1) < number[:, None]], axis=1)


def combiner_fixed_given(q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
    """Released code: google-research/google-research, combiner/combiner/tf/approx_attention.py, 5b09c22.

    `sqrt_fixed_full`. Behind the tokens, keys and values have those of whole spans.
    """
    n, scale = q.shape[2], q.shape[-1] ** -0.5
    spans = n // block
    cut = [x[:, :, :n].unflatten(2, (spans, block)) for x in (q * scale, k, v)]
    query, key, value = cut
    future = torch.full((block, block), -1e9, dtype=q.dtype).triu(1)
    local = query @ key.mT + future
    later = torch.full((spans, spans), -1e9, dtype=q.dtype).triu().repeat_interleave(block, dim=0)
    past = q * scale @ k[:, :, n:].mT + later
    weights = torch.cat([local.flatten(2, 3), past], dim=-1).softmax(-1)
    own, before = weights.split([block, spans], dim=-1)
    return (own.unflatten(2, (spans, block)) @ value).flatten(2, 3) + before @ v[:, :, n:]


def combiner_summary(q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
    """Released code: google-research/google-research, combiner/combiner/tf/approx_attention.py, 5b09c22.

    `span_val` of `sqrt_fixed_full`.
    """
    query, key, value = (x.unflatten(2, (-1, block)) for x in (q * q.shape[-1] ** -0.5, k, v))
    merged = query.mean(3, keepdim=True)
    return ((merged @ key.mT).softmax(-1) @ value).squeeze(3)


def combiner_axial(q: Tensor, k: Tensor, v: Tensor, block: int) -> Tensor:
    """Released code: google-research/google-research, combiner/combiner/tf/approx_attention.py, 5b09c22.

    `axial_rowmajor`. Behind the tokens, keys and values have those that each token has for its row.
    """
    n, rows = q.shape[2], q.shape[2] // block
    query = (q * q.shape[-1] ** -0.5).unflatten(2, (rows, block))
    key, value = (x[:, :, :n].unflatten(2, (rows, block)) for x in (k, v))
    row_key, row_value = (x[:, :, n:].unflatten(2, (rows, block)) for x in (k, v))
    local = query @ key.mT + torch.full((block, block), -1e9, dtype=q.dtype).triu(1)
    along = torch.einsum("bhqld,bhkld->bhqlk", query, row_key)
    along = along + torch.full((rows, rows), -1e9, dtype=q.dtype).triu()[:, None]
    own, before = torch.cat([local, along], dim=-1).softmax(-1).split([block, rows], dim=-1)
    return (own @ value + torch.einsum("bhqlv,bhvld->bhqld", before, row_value)).flatten(2, 3)


def combiner_logsparse(heads: int, n: int) -> np.ndarray:
    """Released code: google-research/google-research, combiner/combiner/jax/model/layer.py, 4c42994.

    `_SelfAttLogn`. Queries are rolled back by a span, so that they stand with the span before their own; every second
    span is masked.
    """
    levels = math.ceil(math.log2(n - 1))
    starts = [0, *(n + sum(n // 2**j for j in range(1, level)) for level in range(1, levels + 1))]
    attends = np.zeros((n, starts[-1]), bool)
    attends[np.arange(n), np.arange(n)] = True
    for level in range(levels):
        length = 2**level
        last = n - n % length
        rolled = np.roll(np.arange(n), -length)[:last].reshape(-1, length)
        masked = np.concatenate([np.arange(n - length) // length % 2, np.ones(last + length - n, int)])
        for span, queries in enumerate(rolled):
            attends[queries[masked.reshape(-1, length)[span] == 0], starts[level] + span] = True
    return attends


# LongT5


def local(q: Tensor, k: Tensor, v: Tensor, radius: int) -> Tensor:
    """Library: transformers, LongT5LocalAttention."""
    return local_attention(q, k, v, None, radius)


def local_biased(q: Tensor, k: Tensor, v: Tensor, table: Tensor, radius: int, distance: int) -> Tensor:
    """Library: transformers, LongT5LocalAttention."""
    return local_attention(q, k, v, table, radius, distance)


def transient_global(q: Tensor, k: Tensor, v: Tensor, radius: int, block: int) -> Tensor:
    """Library: transformers, LongT5TransientGlobalAttention."""
    return transient_attention(q, k, v, None, None, radius, block)


def transient_global_biased(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor,
    global_table: Tensor,
    radius: int,
    block: int,
    distance: int,
) -> Tensor:
    """Library: transformers, LongT5TransientGlobalAttention."""
    return transient_attention(q, k, v, table, global_table, radius, block, distance)


def configured(q: Tensor, table: Tensor | None, **more: int) -> modeling_longt5.LongT5Config:
    heads, dim = q.shape[1], q.shape[3]
    buckets = 32 if table is None else table.shape[1]
    sizes = {"d_model": heads * dim, "d_kv": dim, "num_heads": heads, "relative_attention_num_buckets": buckets}
    return modeling_longt5.LongT5Config(**sizes, dropout_rate=0.0, **more)


def table_layer(table: Tensor) -> Given:
    """An embedding of buckets whose weights are `table`, [heads, buckets]."""
    layer = Given(lambda buckets: table.T[buckets])
    layer.weight = table
    return layer


def local_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, radius: int, distance: int = 128) -> Tensor:
    """The module between its projections, with the mask that its model makes of texts without padding."""
    config = configured(q, table, local_radius=radius, relative_attention_max_distance=distance)
    layer = modeling_longt5.LongT5LocalAttention(config, has_relative_attention_bias=table is not None)
    layer.q, layer.k, layer.v, layer.o = projecting(q), projecting(k), projecting(v), Given(lambda x: x)
    if table is not None:
        layer.relative_attention_bias = table_layer(table)
    real = torch.ones(q.shape[0], q.shape[2], dtype=torch.int64)
    mask = modeling_longt5._get_local_attention_mask(real, radius + 1, q.device)
    return split(layer(joined(q), mask=mask)[0], q.shape[1])


def transient_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    table: Tensor | None,
    global_table: Tensor | None,
    radius: int,
    block: int,
    distance: int = 128,
) -> Tensor:
    """The module between its projections. Behind the tokens, keys and values have those of the summaries."""
    n = q.shape[2]
    config = configured(
        q, table, local_radius=radius, global_block_size=block, relative_attention_max_distance=distance
    )
    layer = modeling_longt5.LongT5TransientGlobalAttention(config, has_relative_attention_bias=True)
    layer.q, layer.o = projecting(q), Given(lambda x: x)
    layer.k, layer.v = (
        Given(lambda x, of=of: joined(of[:, :, :n] if x.shape[1] == n else of[:, :, n:])) for of in (k, v)
    )
    for name, given in (("relative_attention_bias", table), ("global_relative_attention_bias", global_table)):
        setattr(layer, name, table_layer(q.new_zeros(q.shape[1], 32) if given is None else given))
    real = torch.ones(q.shape[0], n, dtype=torch.int64)
    return split(layer(joined(q), mask=real)[0], q.shape[1])


BIASED = {"table": (2, 8), "global_table": (2, 8)}
FLOAT32 = 1e-5
"""The tolerance: the library's softmax is in float32."""


def cut(pattern: str, source: Callable[..., Tensor]) -> Computes:
    """Five blocks of four tokens."""
    return Computes("language/combiner", pattern, {"n": 20, "block": 4}, partial(source, block=4), heads=2)


ROWS = [
    Attends("language/combiner", "combiner_fixed", {"n": 41, "block": 6}, combiner_fixed),
    Attends("language/combiner", "combiner_fixed", {"n": 3, "block": 8}, combiner_fixed),
    cut("combiner_fixed_given", combiner_fixed_given),
    cut("combiner_summary", combiner_summary),
    cut("combiner_axial", combiner_axial),
    Attends("language/combiner", "combiner_logsparse", {"n": 16}, combiner_logsparse),
    Attends("language/combiner", "combiner_logsparse", {"n": 27}, combiner_logsparse),
    Attends("language/combiner", "combiner_logsparse", {"n": 12}, combiner_logsparse),
    Computes("language/longt5", "local", {"n": 23, "radius": 4}, partial(local, radius=4), heads=2, room=FLOAT32),
    Computes(
        *("language/longt5", "local_biased", {"n": 23, "radius": 4, "buckets": 8, "distance": 12}),
        partial(local_biased, radius=4, distance=12),
        heads=2,
        inputs={"table": (2, 8)},
        room=FLOAT32,
    ),
    Computes(
        *("language/longt5", "transient_global", {"n": 22, "radius": 3, "block": 4}),
        partial(transient_global, radius=3, block=4),
        heads=2,
        room=FLOAT32,
    ),
    Computes(
        *(
            "language/longt5",
            "transient_global_biased",
            {"n": 22, "radius": 3, "block": 4, "buckets": 8, "distance": 12},
        ),
        partial(transient_global_biased, radius=3, block=4, distance=12),
        heads=2,
        inputs=BIASED,
        room=FLOAT32,
    ),
]

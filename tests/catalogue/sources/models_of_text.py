"""Modules of transformers: T5 and LongT5, and scores that multiply vectors of distances."""

from functools import partial

import torch
from torch import Tensor
from transformers import masking_utils
from transformers.models.deberta_v2 import modeling_deberta_v2
from transformers.models.longt5 import modeling_longt5
from transformers.models.t5 import modeling_t5
from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer

from tests.catalogue.compared import Computes
from tests.catalogue.library import Given, added, joined, projecting, split


def table_layer(table: Tensor) -> Given:
    """An embedding of buckets whose weights are `table`, [heads, buckets]."""
    layer = Given(lambda buckets: table.T[buckets])
    layer.weight = table
    return layer


def t5(q: Tensor, k: Tensor, v: Tensor, table: Tensor, distance: int) -> Tensor:
    """Library: transformers, T5Attention."""
    return t5_attention(q, k, v, table, distance, is_decoder=False)


def t5_decoder(q: Tensor, k: Tensor, v: Tensor, table: Tensor, distance: int) -> Tensor:
    """Library: transformers, T5Attention."""
    return t5_attention(q, k, v, table, distance, is_decoder=True)


def t5_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor, distance: int, is_decoder: bool) -> Tensor:
    """The module between its projections."""
    heads, buckets = table.shape
    config = modeling_t5.T5Config(
        d_model=heads * q.shape[-1],
        d_kv=q.shape[-1],
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=distance,
        dropout_rate=0.0,
        is_decoder=is_decoder,
    )
    layer = modeling_t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    layer.q, layer.k, layer.v, layer.o = projecting(q), projecting(k), projecting(v), Given(lambda x: x)
    layer.relative_attention_bias = table_layer(table)
    mask = added(masking_utils.causal_mask_function, q.shape[2]) if is_decoder else None
    return split(layer(joined(q), mask=mask)[0], heads)


def conformer(q: Tensor, k: Tensor, v: Tensor, u: Tensor, w: Tensor, r: Tensor) -> Tensor:
    """Library: transformers, Wav2Vec2ConformerSelfAttention."""
    (heads, dim), n = u.shape, q.shape[2]
    config = modeling_wav2vec2_conformer.Wav2Vec2ConformerConfig(
        hidden_size=heads * dim, num_attention_heads=heads, attention_dropout=0.0, position_embeddings_type="relative"
    )
    config._attn_implementation = "eager"
    layer = modeling_wav2vec2_conformer.Wav2Vec2ConformerSelfAttention(config).eval()
    layer.linear_q, layer.linear_k, layer.linear_v = projecting(q), projecting(k), projecting(v)
    layer.linear_out, layer.linear_pos = Given(lambda x: x), projecting(r.flip(1)[None])
    del layer.pos_bias_u, layer.pos_bias_v
    layer.pos_bias_u, layer.pos_bias_v = u, w
    embeddings = q.new_zeros(1, 2 * n - 1, heads * dim)
    return split(layer(joined(q), relative_position_embeddings=embeddings)[0], heads)


def deberta(q: Tensor, k: Tensor, v: Tensor, c2p: Tensor, p2c: Tensor) -> Tensor:
    """Library: transformers, DisentangledSelfAttention."""
    (_, heads, n, dim), span = q.shape, c2p.shape[1] // 2
    config = modeling_deberta_v2.DebertaV2Config(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        relative_attention=True,
        max_relative_positions=span,
        pos_att_type=["c2p", "p2c"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    layer = modeling_deberta_v2.DisentangledSelfAttention(config).double()
    layer.query_proj, layer.key_proj, layer.value_proj = projecting(q), projecting(k), projecting(v)
    layer.pos_key_proj, layer.pos_query_proj = projecting(c2p[None]), projecting(p2c[None])
    embeddings = q.new_zeros(2 * span, heads * dim)
    return split(layer(joined(q), torch.ones(1, 1, n, n), rel_embeddings=embeddings)[0], heads)


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
ROWS = [
    Computes(
        *("language/t5", "t5", {"n": 61, "buckets": 12, "distance": 25}, partial(t5, distance=25)),
        heads=2,
        inputs={"table": (2, 12)},
    ),
    Computes(
        *("language/t5", "t5_decoder", {"n": 61, "buckets": 7, "distance": 40}, partial(t5_decoder, distance=40)),
        heads=2,
        inputs={"table": (2, 7)},
    ),
    Computes(
        "language/conformer",
        "conformer",
        {"n": 21},
        conformer,
        heads=2,
        inputs={"u": (2, 8), "w": (2, 8), "r": (2, 41, 8)},
    ),
    Computes(
        *("language/deberta", "deberta", {"n": 21, "span": 5}, deberta),
        heads=2,
        inputs={"c2p": (2, 10, 8), "p2c": (2, 10, 8)},
        room=1e-6,
    ),
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

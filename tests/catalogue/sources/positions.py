"""Scores with positions, of modules of transformers: biases by distance, and products with vectors of distances."""

from functools import partial

import torch
from torch import Tensor
from transformers import masking_utils
from transformers.models.deberta_v2 import modeling_deberta_v2
from transformers.models.t5 import modeling_t5
from transformers.models.wav2vec2_conformer import modeling_wav2vec2_conformer

from tests.catalogue.compared import Computes
from tests.catalogue.library import Given, added, joined, projecting, split


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
    bias = layer.relative_attention_bias = Given(lambda buckets: table.T[buckets])
    bias.weight = table
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
]

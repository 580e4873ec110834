"""Single keys, chosen by a part of the model beside its attention. Positions are not encoded, here or there."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DeepseekV4Config, DeepseekV32Config, DogeConfig
from transformers.masking_utils import causal_mask_function, sliding_window_causal_mask_function
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4Attention
from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32Attention
from transformers.models.doge.modeling_doge import DogeAttention

from tests.catalogue.compared import Computes, Row
from tests.catalogue.library import Given, added, joined, projecting, split


class Unrotated(nn.Module):
    """A rotary embedding of the last two channels by no angle."""

    def forward(self, x: Tensor, position_ids: Tensor, layer_type: str) -> tuple[Tensor, Tensor]:
        shape = *position_ids.shape, 1
        return x.new_ones(shape), x.new_zeros(shape)


def dsa(q: Tensor, k: Tensor, v: Tensor, iq: Tensor, ik: Tensor, iw: Tensor, top: int) -> Tensor:
    """Library: transformers, DeepseekV32Attention."""
    batch, heads, n, dim = q.shape
    config = DeepseekV32Config(
        hidden_size=heads * dim,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        qk_rope_head_dim=0,
        qk_nope_head_dim=dim,
        v_head_dim=dim,
        index_n_heads=iq.shape[1],
        index_head_dim=iq.shape[3],
        index_topk=top,
    )
    config._attn_implementation = "eager"
    with torch.device("meta"):
        module = DeepseekV32Attention(config, layer_idx=0)
    every_k, every_v = (x.repeat_interleave(heads // x.shape[1], dim=1) for x in (k, v))
    module.q_a_proj = module.q_a_layernorm = module.kv_a_layernorm = module.o_proj = nn.Identity()
    module.q_b_proj, module.kv_b_proj = projecting(q), projecting(torch.cat([every_k, every_v], dim=-1))
    module.kv_a_proj_with_mqa = Given(lambda x: x.new_zeros(batch, n, config.kv_lora_rank))
    indexer = module.indexer
    indexer.wq_b, indexer.wk, indexer.k_norm = projecting(iq), Given(lambda _: ik), nn.Identity()
    indexer.weights_proj = Given(lambda _: iw.mT)
    indexer.weights_proj.weight = iw
    nowhere = q.new_ones(batch, n, 0), q.new_zeros(batch, n, 0)
    causal = added(causal_mask_function, n).expand(batch, 1, n, n)
    out, _ = module(joined(q), nowhere, causal)
    return split(out, heads)


def csa(
    q: Tensor, k: Tensor, v: Tensor, iq: Tensor, ik: Tensor, iw: Tensor, logit: Tensor, ratio: int, top: int, size: int
) -> Tensor:
    """Library: transformers, DeepseekV4Attention."""
    heads, n, dim = q.shape[1:]
    config = DeepseekV4Config(
        hidden_size=heads * dim,
        num_hidden_layers=1,
        layer_types=["compressed_sparse_attention"],
        compress_rates={"compressed_sparse_attention": ratio, "heavily_compressed_attention": ratio},
        num_attention_heads=heads,
        head_dim=dim,
        index_n_heads=iq.shape[1],
        index_head_dim=iq.shape[3],
        index_topk=top,
        sliding_window=size,
        o_groups=1,
    )
    config._attn_implementation = "eager"
    with torch.device("meta"):
        module = DeepseekV4Attention(config, layer_idx=0)
    module.q_a_proj = module.q_a_norm = module.q_b_norm = module.kv_norm = nn.Identity()
    module.o_a_proj = module.o_b_proj = nn.Identity()
    module.q_b_proj, module.kv_proj = projecting(q), projecting(k[:, :, :n])
    del module.sinks
    module.sinks = logit
    compressor = module.compressor
    indexer = compressor.indexer
    for each, entries in (compressor, k[:, 0, n:]), (indexer, ik):
        channels = entries.shape[-1]
        each.kv_proj = each.gate_proj = Given(lambda x, channels=channels: x.new_zeros(*x.shape[:2], 2 * channels))
        each.position_bias = nn.Parameter(torch.zeros(ratio, 2 * channels).to(q))
        each.kv_norm = Given(lambda _, entries=entries: entries)
        each.rotary_emb = Unrotated()
    indexer.q_b_proj, indexer.scorer.weights_proj = projecting(iq), Given(lambda _: iw.mT)
    positions = torch.arange(n).expand(len(q), n)
    rotation = dict.fromkeys(("main", "compress"), Unrotated()(q, positions, ""))
    window = added(sliding_window_causal_mask_function(size), n).expand(len(q), 1, n, n)
    out, _ = module(joined(q), rotation, positions, window)
    return split(out, heads)


def values_are_keys(q: Tensor, k: Tensor, v: Tensor, **inputs: Tensor) -> dict[str, Tensor]:
    return {"q": q, "k": k, "v": k, **inputs}


def doge(q: Tensor, k: Tensor, v: Tensor, step: Tensor, rate: Tensor, top: int) -> Tensor:
    """Library: transformers, DogeAttention."""
    heads, key_heads, n, dim = q.shape[1], k.shape[1], q.shape[2], q.shape[3]
    config = DogeConfig(
        hidden_size=heads * dim, num_attention_heads=heads, num_key_value_heads=key_heads, keep_window_size=top
    )
    config._attn_implementation = "eager"
    with torch.device("meta"):
        module = DogeAttention(config, layer_idx=0)
    module.q_proj, module.k_proj, module.v_proj = map(projecting, (q, k, v))
    module.q_norm = module.k_norm = module.o_proj = nn.Identity()
    module.dt_proj = Given(lambda _: step.mT)
    del module.A
    module.A = rate
    nowhere = q.new_ones(1, n, dim), q.new_zeros(1, n, dim)
    out, _ = module(joined(q), nowhere, added(causal_mask_function, n)[None, None])
    return split(out, heads)


def worth(q: Tensor, k: Tensor, v: Tensor, step: Tensor, rate: Tensor) -> dict[str, Tensor]:
    """What each key adds to its scores: of the projection of values, and of a rate for each key head."""
    return {"q": q, "k": k, "v": v, "worth": (rate[:, None] * nn.functional.softplus(step)).exp()}


def _dsa(n: int, top: int, index_heads: int, width: int) -> Row:
    inputs = {"iq": (2, index_heads, n, width), "ik": (2, n, width), "iw": (2, index_heads, n)}
    values = {"n": n, "top": top, "index_heads": index_heads, "width": width}
    return Computes("routing/dsa", "dsa", values, partial(dsa, top=top), 4, 2, inputs, room=1e-5)


def _csa(n: int, ratio: int, top: int, size: int, index_heads: int, width: int) -> Row:
    entries = n // ratio
    inputs = {"iq": (2, index_heads, n, width), "ik": (2, entries, width), "iw": (2, index_heads, n), "logit": (4,)}
    sizes = {"ratio": ratio, "top": top, "size": size}
    values = {"n": n, **sizes, "index_heads": index_heads, "width": width}
    source: Any = partial(csa, **sizes)
    return Computes("routing/csa", "csa", values, source, 4, 1, inputs, room=1e-5, given=values_are_keys)


def _doge(n: int, top: int) -> Row:
    inputs = {"step": (2, 2, n), "rate": (2,)}
    return Computes(
        "routing/doge", "doge", {"n": n, "top": top}, partial(doge, top=top), 4, 2, inputs, room=1e-5, given=worth
    )


ROWS: list[Row] = [
    _dsa(29, 5, 6, 3),
    _dsa(7, 12, 1, 2),
    _csa(30, 4, 2, 5, 5, 3),
    _csa(11, 2, 9, 3, 1, 2),
    _doge(29, 6),
    _doge(5, 8),
]

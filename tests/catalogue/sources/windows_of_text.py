"""Windows, strides and sinks over one sequence."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from transformers import masking_utils
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.longformer import modeling_longformer
from transformers.models.modernbert import modeling_modernbert

from tests.catalogue.compared import Attends, Computes
from tests.catalogue.library import added, pairs


def dense(heads: int, n: int) -> np.ndarray:
    """By definition."""
    return np.ones((n, n), bool)


def causal(heads: int, n: int) -> np.ndarray:
    """By definition."""
    return np.tri(n, dtype=bool)


def sliding_window(heads: int, n: int, size: int) -> np.ndarray:
    """Library: transformers, sliding_window_causal_mask_function."""
    return pairs(masking_utils.sliding_window_causal_mask_function(size), n)


def dilated_window(heads: int, n: int, size: int, dilation: int) -> np.ndarray:
    """By definition."""
    attends = np.zeros((n, n), bool)
    for query in range(n):
        for step in range(-(size // 2), size // 2 + 1):
            if 0 <= query + step * dilation < n:
                attends[query, query + step * dilation] = True
    return attends


def streaming(heads: int, n: int, size: int, sinks: int) -> np.ndarray:
    """Released code: mit-han-lab/streaming-llm, streaming_llm/kv_cache.py, d729b3f.

    A cache that makes room for each token before it comes: it keeps the first and the last ones.
    """
    attends, cache = np.zeros((n, n), bool), list[int]()
    for token in range(n):
        if len(cache) + 1 > sinks + size:
            cache = cache[:sinks] + cache[len(cache) - size + 1 :]
        cache.append(token)
        attends[token, cache] = True
    return attends


def longformer(heads: int, n: int, size: int, dilation: int, globals: int) -> np.ndarray:
    """Library: transformers, LongformerSelfAttention.

    Probabilities of equal scores, where every value is a direction of its own. The library has no dilation: it attends
    in every `dilation`-th token.
    """
    if dilation == 1:
        return global_windows(n, size, np.arange(n) < globals)
    assert not globals
    attends = np.zeros((n, n), bool)
    for first in range(dilation):
        tokens = np.arange(first, n, dilation)
        attends[np.ix_(tokens, tokens)] = global_windows(len(tokens), size, np.zeros(len(tokens), bool))
    return attends


def longformer_at(heads: int, n: int, size: int, is_global: np.ndarray) -> np.ndarray:
    """Library: transformers, LongformerSelfAttention."""
    return global_windows(n, size, is_global[0])


def global_windows(n: int, size: int, is_global: np.ndarray) -> np.ndarray:
    """Which keys get a probability. As in `LongformerModel`, there is padding to a multiple of the window, hidden."""
    padded = -(-n // size) * size
    config = modeling_longformer.LongformerConfig(
        hidden_size=padded, num_attention_heads=1, attention_window=[size], attention_probs_dropout_prob=0.0
    )
    layer = modeling_longformer.LongformerSelfAttention(config, 0)
    for name, parameter in layer.named_parameters():
        parameter.data.zero_()
        if name in ("value.weight", "value_global.weight"):
            parameter.data.fill_diagonal_(1.0)
    kind = torch.zeros(1, padded)
    kind[0, n:], kind[0, :n] = -10000.0, torch.from_numpy(is_global).float() * 10000.0
    with torch.no_grad():
        (out,) = layer(torch.eye(padded)[None], kind, kind < 0, kind > 0, bool(is_global.any()))
    return (out[0, :n, :n] > 0).numpy()


def strided(heads: int, n: int, stride: int) -> np.ndarray:
    """Released code: openai/sparse_attention, attention.py, 199cdd3.

    Its modes `local` and `strided`, which the paper merges in one head.
    """
    local = np.tril(np.triu(np.ones((n, n), bool), -min(n - 1, stride - 1)))
    query, key = np.arange(n)[:, None], np.arange(n)
    return local | ((query >= key) & ((query - key) % stride == 0))


def fixed(heads: int, n: int, stride: int, summary: int) -> np.ndarray:
    """Released code: openai/sparse_attention, attention.py, 199cdd3.

    The layout of `get_blocksparse_obj` with blocks of one token and `num_verts` 1.
    """
    layout = np.zeros((n, n), bool)
    for column in list(range(stride - 1, -1, -1))[:summary]:
        layout[:, column::stride] = True
    for query in range(n):
        row = query // stride
        layout[query, row * stride : (row + 1) * stride] = True
        layout[query, query + 1 :] = False
    return layout


def log_sparse(heads: int, n: int) -> np.ndarray:
    """No public code: the paper's text."""
    attends = np.eye(n, dtype=bool)
    for query in range(n):
        step = 1
        while step <= query:
            attends[query, query - step] = True
            step *= 2
    return attends


def global_sliding(heads: int, n: int, size: int, globals: int) -> np.ndarray:
    """Released code: SandAI-org/MagiAttention, exps/attn/baselines/utils.py, 2c64135."""
    width = size - 1
    assert globals == 2 * width
    query, key = np.arange(n)[:, None], np.arange(n)
    near = (query - key <= width) & (key - query <= width)
    return near | (query < 2 * width) | (key < 2 * width)


def chunked(heads: int, n: int, chunk: int) -> np.ndarray:
    """Library: transformers, chunked_causal_mask_function."""
    return pairs(masking_utils.chunked_causal_mask_function(chunk, torch.zeros(1, dtype=torch.int64)), n)


def bert_local(heads: int, n: int, size: int) -> np.ndarray:
    """Library: transformers, ModernBertModel."""
    config = modeling_modernbert.ModernBertConfig(local_attention=size)
    return pairs(masking_utils.sliding_window_bidirectional_mask_function(config.sliding_window), n)


def bert_global(heads: int, n: int) -> np.ndarray:
    """Library: transformers, ModernBertModel."""
    return pairs(masking_utils.bidirectional_mask_function, n)


def gemma_local(heads: int, n: int, size: int) -> np.ndarray:
    """Library: transformers, Gemma3Attention."""
    return pairs(masking_utils.sliding_window_causal_mask_function(size), n)


def gemma_global(heads: int, n: int) -> np.ndarray:
    """Library: transformers, Gemma3Attention."""
    return pairs(masking_utils.causal_mask_function, n)


def gemma2(q: Tensor, k: Tensor, v: Tensor, size: int, cap: float) -> Tensor:
    """Library: transformers, Gemma2Attention."""
    module = SimpleNamespace(num_key_value_groups=q.shape[1] // k.shape[1], head_dim=q.shape[3], training=False)
    mask = added(masking_utils.sliding_window_causal_mask_function(size), q.shape[2])
    return modeling_gemma2.eager_attention_forward(module, q, k, v, mask, softcap=cap)[0].transpose(1, 2)


def gpt_oss_sliding(q: Tensor, k: Tensor, v: Tensor, logit: Tensor, size: int) -> Tensor:
    """Library: transformers, GptOssAttention."""
    return gpt_oss(q, k, v, logit, added(masking_utils.sliding_window_causal_mask_function(size), q.shape[2]))


def gpt_oss_full(q: Tensor, k: Tensor, v: Tensor, logit: Tensor) -> Tensor:
    """Library: transformers, GptOssAttention."""
    return gpt_oss(q, k, v, logit, added(masking_utils.causal_mask_function, q.shape[2]))


def gpt_oss(q: Tensor, k: Tensor, v: Tensor, logit: Tensor, mask: Tensor) -> Tensor:
    """What `GptOssAttention` calls, with these queries and keys in place of rotated ones."""
    module = SimpleNamespace(num_key_value_groups=q.shape[1] // k.shape[1], sinks=logit, training=False)
    out, _ = modeling_gpt_oss.eager_attention_forward(module, q, k, v, mask, scaling=q.shape[3] ** -0.5)
    return out.transpose(1, 2)


SOME = np.array([[False, True, *[False] * 12, True, True, *[False] * 20, True]])
"""Tokens 1, 14, 15 and 36 of 37."""
WINDOW = {"size": 6}
CAPPED = WINDOW | {"cap": 2.0}
ROWS = [
    Attends("language/dense", "dense", {"n": 7}, dense),
    Attends("language/causal", "causal_dense", {"n": 13}, causal),
    Attends("language/sliding_window", "sliding_window", {"n": 41, "size": 7}, sliding_window),
    Attends("language/sliding_window", "sliding_window", {"n": 1, "size": 1}, sliding_window),
    Attends("language/dilated_window", "dilated_window", {"n": 61, "size": 7, "dilation": 3}, dilated_window),
    Attends("language/dilated_window", "dilated_window", {"n": 61, "size": 8, "dilation": 2}, dilated_window),
    Attends("language/streaming", "streaming", {"n": 53, "size": 9, "sinks": 3}, streaming),
    Attends("language/streaming", "streaming", {"n": 5, "size": 2, "sinks": 0}, streaming),
    Attends("language/longformer", "longformer", {"n": 37, "size": 8, "dilation": 1, "globals": 3}, longformer),
    Attends("language/longformer", "longformer", {"n": 37, "size": 6, "dilation": 1, "globals": 0}, longformer),
    Attends("language/longformer", "longformer", {"n": 41, "size": 4, "dilation": 3, "globals": 0}, longformer),
    Attends("language/longformer", "longformer_at", {"n": 37, "size": 8}, longformer_at, inputs={"is_global": SOME}),
    Attends("language/sparse_transformer", "strided", {"n": 50, "stride": 7}, strided),
    Attends("language/sparse_transformer", "strided", {"n": 5, "stride": 9}, strided),
    Attends("language/sparse_transformer", "fixed", {"n": 50, "stride": 8, "summary": 3}, fixed),
    Attends("language/sparse_transformer", "fixed", {"n": 50, "stride": 7, "summary": 1}, fixed),
    Attends("language/log_sparse", "log_sparse", {"n": 70}, log_sparse),
    Attends("language/global_sliding", "global_sliding", {"n": 40, "size": 4, "globals": 6}, global_sliding),
    Attends("language/global_sliding", "global_sliding", {"n": 9, "size": 1, "globals": 0}, global_sliding),
    Attends("language/chunked", "chunked", {"n": 41, "chunk": 9}, chunked),
    Attends("language/modernbert", "local", {"n": 41, "size": 8}, bert_local),
    Attends("language/modernbert", "global", {"n": 11}, bert_global),
    Attends("language/gemma", "local_layer", {"n": 40, "size": 6}, gemma_local),
    Attends("language/gemma", "global_layer", {"n": 19}, gemma_global),
    Computes(
        *("language/gemma", "gemma2_layer", {"n": 33} | CAPPED, partial(gemma2, **CAPPED)),
        heads=4,
        key_heads=2,
        room=1e-6,
    ),
    Computes(
        *("language/gpt_oss", "sliding", {"n": 33} | WINDOW, partial(gpt_oss_sliding, **WINDOW)),
        heads=4,
        key_heads=2,
        inputs={"logit": (4,)},
    ),
    Computes("language/gpt_oss", "full", {"n": 17}, gpt_oss_full, heads=4, key_heads=2, inputs={"logit": (4,)}),
]

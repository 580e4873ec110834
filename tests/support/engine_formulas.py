"""What each engine computes of scores, given arguments of its call, as its documentation says; in float64."""

from collections.abc import Mapping

import numpy as np

DEFAULTS = {
    "flex": ("scale", None, None),
    "cudnn": ("softmax_scale", None, None),
    "flashmask": ("softmax_scale", None, "learnable_sink"),
    "magi": ("softmax_scale", "softcap", "sink"),
    "flashinfer": ("sm_scale", "logits_soft_cap", "sink"),
    "sdpa": ("scale", None, None),
}
"""The names of the scale, the soft cap and the sinks."""


def flashinfer_slopes(heads: int) -> np.ndarray:
    """`flashinfer.utils.get_alibi_slopes`: float32, by repeated halving of the exponent's step for odd numbers."""
    closest = 2 ** int(np.floor(np.log2(heads)))
    slopes = [(2.0 ** (-8.0 / closest)) ** power for power in range(1, closest + 1)]
    slopes += [(2.0 ** (-4.0 / closest)) ** power for power in range(1, 1 + 2 * (heads - closest), 2)]
    return np.array(slopes, dtype=np.float32)


def computed(
    engine: str, q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray, given: Mapping[str, object]
) -> np.ndarray:
    """The output [heads, queries, dim] of one batch entry; q, k and v are [heads, tokens, dim].

    `visible` is bool [1 or heads, queries, keys], what the engine's encoding of the mask says.
    """
    given = dict(given)
    scale, cap, sink = DEFAULTS[engine]
    scores = np.asarray(given.pop(scale, q.shape[-1] ** -0.5)) * (q @ k.swapaxes(-1, -2))
    query, key = np.arange(q.shape[1])[:, None], np.arange(k.shape[1])
    if engine == "flashinfer" and given.pop("pos_encoding_mode", "NONE") == "ALIBI":
        assert "logits_soft_cap" not in given and "sink" not in given, "the kernel would scale twice, or leave it out"
        scores = scores + flashinfer_slopes(len(q)).astype(float)[:, None, None] * (key - query)
    if engine == "sdpa" and "attn_mask" in given:
        bias = np.asarray(given.pop("attn_mask"))
        assert np.array_equal(bias > -np.inf, np.broadcast_to(visible, scores.shape)[: len(bias)])
        scores = scores + bias
    if cap in given:
        limit = float(given.pop(cap))
        assert limit > 0, "zero is none"
        scores = limit * np.tanh(scores / limit)
    if engine == "flashinfer" and sink in given:
        assert "logits_soft_cap" not in given
        left = given.pop("window_left")
        assert given.pop("causal") is True
        visible = ((key <= query) & ((left < 0) | (query - key <= left)))[None]
    scores = np.where(visible, scores, -np.inf)
    ends = np.zeros((*scores.shape[:2], 0))
    if sink in given:
        sinks = np.asarray(given.pop(sink))
        assert sinks.dtype == np.float32
        if engine == "magi" and given.pop("sink_layout", "sh") == "ssh":
            ends = sinks.transpose(2, 0, 1)  # [queries, sinks, heads]
        elif engine == "magi":
            ends = np.broadcast_to(sinks.T[:, None], (len(q), q.shape[1], len(sinks)))  # [sinks, heads]
        else:
            ends = np.broadcast_to(sinks[:, None, None], (*scores.shape[:2], 1))  # [heads]
    assert not given, "the call has no such argument"
    whole = np.concatenate([scores, ends.astype(float)], axis=-1)
    highest = whole.max(axis=-1, keepdims=True)
    weights = np.exp(whole - np.where(highest > -np.inf, highest, 0))
    sums = weights.sum(axis=-1, keepdims=True)
    return (weights / np.where(sums > 0, sums, 1))[..., : k.shape[1]] @ v

"""Words of other libraries, and what to write in their place: for the help of errors. Imports nothing."""

_PADDING = "`input real: bool[batch, tokens]` and `require k.real`"
_SCALE = "write `scale ...` in the pattern, which stands for 1 / sqrt(head dim)"
_WINDOW = "write `attend window(size)`, or `attend causal and backward(size)`, in the pattern"
_PACKED = "call attention.varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, ...)"
_MASK = (
    "say which pairs attend in the pattern; what only a call knows is an input: "
    "`input allowed: bool[queries, keys]` and `attend allowed[q, k]`"
)
_ALIBI = "write `input slope: float[heads]` and `score s - slope[head] * (q - k)` in the pattern"

ARGUMENTS = {
    "scale": _SCALE,
    "softmax_scale": _SCALE,
    "sm_scale": _SCALE,
    "is_causal": "write `attend causal` in the pattern",
    "causal": "write `attend causal` in the pattern",
    "attn_mask": _MASK,
    "attention_mask": _MASK,
    "mask": _MASK,
    "block_mask": "leave it out: the pattern says which pairs attend, and its tiles are found from that",
    "mask_mod": "say which pairs attend in the pattern; maskdsl.from_mask_mod reads such a function",
    "score_mod": "write `score ...` in the pattern, such as `score s + bias[q - k]`",
    "attn_bias": "write `input bias: float[queries, keys]` and `score s + bias[q, k]` in the pattern",
    "key_padding_mask": f"write {_PADDING} in the pattern, or give `key_lengths` with `query_start`",
    "padding_mask": f"write {_PADDING} in the pattern, or give `key_lengths` with `query_start`",
    "dropout": "dropout_p=0.1, seed=step drops pairs of a call",
    "enable_gqa": "leave it out: k and v with fewer heads are shared by groups of query heads",
    "window_size": _WINDOW,
    "sliding_window": _WINDOW,
    "softcap": "write `score 50 * tanh(s / 50)` in the pattern, for a cap of 50",
    "alibi_slopes": _ALIBI,
    "kernel_size": "write `attend neighborhood(size)` in the pattern",
    "cu_seqlens": _PACKED,
    "max_seqlen_q": _PACKED,
    "max_seqlen_k": _PACKED,
    "need_weights": "leave it out: probabilities are never held; return_lse=True gives the log-sum-exp",
}
"""Arguments of the attention functions of other libraries (SDPA, FlexAttention, FlashAttention, NATTEN)."""

NAMES = {
    **dict.fromkeys(("q_idx", "q_index", "query_idx", "query", "q_i", "qi", "row"), "q"),
    **dict.fromkeys(("kv_idx", "kv_index", "k_idx", "k_index", "key_idx", "key", "kv", "k_i", "ki", "col"), "k"),
    **dict.fromkeys(("h", "h_idx", "head_idx", "head_index"), "head"),
    **dict.fromkeys(("b", "b_idx", "batch_idx", "batch_index"), "batch"),
    **dict.fromkeys(("num_heads", "n_heads", "H"), "heads"),
    **dict.fromkeys(("score", "scores", "logits"), "s"),
}
"""What functions of FlexAttention and of our own are given, by the usual names."""

DIMENSIONS = {
    **dict.fromkeys(("seq", "seq_len", "seqlen", "sequence", "length", "S", "L", "N", "T"), "tokens"),
    **dict.fromkeys(("q_len", "q_seq", "M"), "queries"),
    **dict.fromkeys(("kv_len", "kv", "k_len"), "keys"),
    **dict.fromkeys(("B", "b", "bs", "batch_size"), "batch"),
    **dict.fromkeys(("H", "h", "num_heads", "n_heads", "head"), "heads"),
    **dict.fromkeys(("D", "d", "head_dim"), "dim"),
}
"""What sides of tensors are called."""

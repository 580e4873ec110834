"""InfLLM, NOSA and XAttention: shares of small pools are added up to shares of blocks."""

import numpy as np

from tests.catalogue.compared import Row, Selects
from tests.catalogue.selecting import best, keys_by_head, softmax


def infllm(q: np.ndarray, k: np.ndarray, n: int, block: int, top: int, sinks: int, size: int) -> np.ndarray:
    """Released code: OpenBMB/infllmv2_cuda_impl, csrc/max_pooling_1d.cuh and tests/test_stage1.py, f908e73."""
    return _over_tokens(q, _blocks_by_query(q, k, block, top, sinks, size), block)


def nosa(
    q: np.ndarray,
    k: np.ndarray,
    n: int,
    block: int,
    top: int,
    sinks: int,
    size: int,
    fixed: int,
    worth: np.ndarray,
) -> np.ndarray:
    """Released code: thunlp/NOSA, benchmarks/Efficiency/proxy_modeling_nosa.py, 94d5f75."""
    chosen = _blocks_by_query(q, k, block, top, sinks, size)
    past = np.arange(n)[:, None] // block >= np.arange(chosen.shape[2])
    more = best(np.where(past & ~chosen, worth[:, None], -np.inf), fixed)
    return _over_tokens(q, chosen | more, block)


def _blocks_by_query(q: np.ndarray, k: np.ndarray, block: int, top: int, sinks: int, size: int) -> np.ndarray:
    """bool [key heads, queries, blocks]."""
    (heads, n, dim), token = q.shape, np.arange(q.shape[1])
    starts = np.arange(0, n - 31, 16)
    pools = np.stack([k[:, start : start + 32].mean(axis=1) for start in starts], axis=1)
    score = q @ keys_by_head(q, pools).mT * dim**-0.5
    share = softmax(score, starts + 32 <= token[:, None] + 1).reshape(len(k), heads // len(k), n, -1).sum(axis=1)
    own, numbers = token[:, None] // block, np.arange(-(-n // block))
    touching = (starts < (numbers[:, None] + 1) * block) & (starts + 32 > numbers[:, None] * block)
    most = np.where(touching, share[:, :, None], -np.inf).max(axis=-1)
    always = (numbers <= own) & ((numbers < sinks) | (own - numbers <= size // block))
    return best(np.where(always, np.inf, np.where(numbers <= own, most, -np.inf)), top)


def _over_tokens(q: np.ndarray, chosen: np.ndarray, block: int) -> np.ndarray:
    own = np.arange(q.shape[1]) // block
    return keys_by_head(q, chosen)[:, :, own] & np.tri(q.shape[1], dtype=bool)


def antidiagonal(q: np.ndarray, k: np.ndarray, n: int, block: int, stride: int, mass: float) -> np.ndarray:
    """Released code: mit-han-lab/x-attention, xattn/src/Xattention.py, e379887."""
    (heads, _, dim), blocks, rows = q.shape, -(-n // block), -(-n // stride)
    pad = (0, 0), (0, blocks * block - n), (0, 0)
    queries, keys = (np.pad(x, pad).reshape(heads, -1, stride, dim) for x in (q, keys_by_head(q, k)))
    score = np.einsum("hasd,htsd->hat", queries[:, :, ::-1], keys) / (stride * dim**0.5)
    row = np.arange(score.shape[1])
    share = softmax(score, (row <= row[:, None]) & (row[:, None] < rows))
    share = share.reshape(heads, blocks, block // stride, blocks, block // stride).sum(axis=(2, 4))
    number = np.arange(blocks)
    forced = (number == number[:, None]) | (number == 0)
    order = np.argsort(np.where(forced, -np.inf, -share), axis=-1, kind="stable")
    before = np.take_along_axis(share, order, axis=-1)
    before = before.cumsum(axis=-1) - before
    chosen = np.zeros(share.shape, dtype=bool)
    np.put_along_axis(chosen, order, before < mass * share.sum(axis=-1, keepdims=True), axis=-1)
    own = np.arange(n) // block
    return (chosen | forced)[:, own][:, :, own] & np.tri(n, dtype=bool)


LONG = {"n": 141, "block": 32, "top": 3, "sinks": 1, "size": 0}
SHORT = {"n": 49, "block": 64, "top": 3, "sinks": 1, "size": 64}
SQUARES = {"n": 93, "block": 16, "stride": 4, "mass": 0.6}
ROWS: list[Row] = [
    Selects("routing/infllm", "infllm", LONG, infllm, heads=4, key_heads=2),
    Selects("routing/infllm", "infllm", {**LONG, "top": 40, "size": 32}, infllm, heads=2),
    Selects("routing/infllm", "infllm", SHORT, infllm, heads=2),
    Selects(
        "routing/infllm",
        "nosa",
        {**LONG, "fixed": 1},
        nosa,
        heads=4,
        key_heads=2,
        inputs={"worth": (2, 2, 5)},
        batched=frozenset({"worth"}),
    ),
    Selects("routing/antidiagonal", "antidiagonal", SQUARES, antidiagonal, heads=4, key_heads=2),
    Selects("routing/antidiagonal", "antidiagonal", {**SQUARES, "mass": 0.95}, antidiagonal, heads=2),
    Selects("routing/antidiagonal", "antidiagonal", {**SQUARES, "n": 5}, antidiagonal, heads=2),
]

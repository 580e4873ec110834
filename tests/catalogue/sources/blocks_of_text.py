"""Blocks, groups and chunks of tokens, random ones and summarized ones included."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tests.catalogue.compared import Attends, Computes


def longlora(heads: int, n: int, group: int) -> np.ndarray:
    """Released code: dvlab-research/LongLoRA, llama_attn_replace_sft.py (forward_flashattn), d4eb344.

    Each half of the heads is a sequence of its own, and each group one of flash attention's sequences, causal inside.
    """
    attends = np.zeros((heads, n, n), bool)
    starts = np.arange(0, n, group)
    for half, begins in enumerate((starts, starts + group // 2)):
        ends = sorted({0, *begins[begins < n].tolist(), n})
        for start, end in pairwise(ends):
            own = slice(heads // 2, None) if half else slice(heads // 2)
            attends[own, start:end, start:end] = np.tri(end - start, dtype=bool)
    return attends


def longlora_rolled(heads: int, n: int, group: int) -> np.ndarray:
    """Released code: dvlab-research/LongLoRA, llama_attn_replace_sft.py (forward_noflashattn), d4eb344."""
    tokens = np.broadcast_to(np.arange(n), (heads, n)).copy()
    tokens[heads // 2 :] = np.roll(tokens[heads // 2 :], -group // 2, axis=1)
    attends = np.zeros((heads, n, n), bool)
    for head, groups in enumerate(tokens.reshape(heads, n // group, group)):
        for own in groups:
            attends[head][np.ix_(own, own)] = np.tri(group, dtype=bool)
    return attends


def sink_lora(heads: int, n: int, group: int, sinks: int) -> np.ndarray:
    """No public code: the paper's text."""
    attends = longlora(heads, n, group)
    attends[:, :, :sinks] = True
    return attends & np.tri(n, dtype=bool)


def s2(key_heads: int) -> Callable[..., np.ndarray]:
    """The masks for so many key heads."""

    def masks(heads: int, n: int, block: int, local: int, stride: int, dense: int) -> np.ndarray:
        """Released code: linxihui/dkernel, dkernel/utils.py, 0d4e90e.

        The dense mask of `get_sparse_attn_mask`, causal, with absolute positions.
        """
        blocks = -(-n // block)
        query, key = np.arange(blocks)[:, None], np.arange(blocks)
        step = max(1, int(stride / heads))
        rows = []
        for key_head in range(key_heads):
            is_sparse = key_head < key_heads - dense
            shard = (key + key_head * step) % stride == 0 if is_sparse else np.ones(blocks, bool)
            rows += [shard] * (heads // key_heads)
        near = (query - key < local) & (key - query < 1)
        by_block = (np.stack(rows)[:, None] | near) & (query >= key)
        tokens = np.kron(by_block, np.ones((block, block), bool))[:, :n, :n]
        return tokens & np.tri(n, dtype=bool)

    return masks


def power(heads: int, n: int, block: int, local: int, sinks: int) -> np.ndarray:
    """No public code: the paper's text."""
    attends = np.zeros((n, n), bool)
    for query in range(n):
        own = query // block
        chosen = {*range(own - local + 1, own + 1), *range(sinks), *(own - 2**j for j in range(n.bit_length()))}
        attends[query] = np.isin(np.arange(n) // block, sorted(chosen)) & (np.arange(n) <= query)
    return attends


def block_causal(heads: int, n: int, block: int) -> np.ndarray:
    """By definition."""
    attends = np.zeros((n, n), bool)
    for start in range(0, n, block):
        attends[start : start + block, : start + block] = True
    return attends


def rat(q: Tensor, k: Tensor, v: Tensor, chunk: int) -> Tensor:
    """Released code: CLAIRE-Labo/RAT, src/model/backbone/rat/rat.py, d4a8f54.

    The ends of earlier chunks by one softmax, the query itself by its score, merged by the logarithms of their sums.
    """
    n, scale = q.shape[2], q.shape[-1] ** -0.5
    ends, values = k[:, :, chunk - 1 :: chunk], v[:, :, chunk - 1 :: chunk]
    past = torch.arange(n)[:, None] // chunk > torch.arange(n // chunk)
    scores = (q @ ends.mT * scale).masked_fill(~past, -torch.inf)
    inter, intra = scores.logsumexp(-1), (q * k).sum(-1) * scale
    largest = torch.maximum(inter, intra)
    inter_sum, intra_sum = (inter - largest).exp(), (intra - largest).exp()
    share = (intra_sum / (intra_sum + inter_sum))[..., None]
    out = (scores - inter[..., None]).masked_fill(~past, -torch.inf).exp() @ values
    return out * (1 - share) + v * share


def token_decoder(heads: int, n: int, block: int) -> np.ndarray:
    """Released code: itsnamgyu/block-transformer, model/block_transformer.py, 17842dd.

    Blocks are entries of the batch, and the decoder in each is causal.
    """
    attends = np.zeros((n, n), bool)
    for tokens in np.split(np.arange(n), range(block, n, block)):
        attends[np.ix_(tokens, tokens)] = np.tri(len(tokens), dtype=bool)
    return attends


def block_decoder(heads: int, n: int, block: int) -> np.ndarray:
    """Released code: itsnamgyu/block-transformer, model/block_transformer.py, 17842dd."""
    return np.tri(len(range(0, n, block)), dtype=bool)


def aligned(heads: int, targets: int, sources: int, size: int) -> np.ndarray:
    """By definition."""
    places = np.arange(targets) * sources // targets
    return abs(places[:, None] - np.arange(sources)) <= size // 2


def cross_attention(heads: int, targets: int, sources: int) -> np.ndarray:
    """By definition."""
    return np.ones((targets, sources), bool)


# Fixed random numbers, as docs/language.md defines them


def random(*arguments: int) -> int:
    """`random(seed, a, ...)` of the language."""
    word = 0
    for argument in arguments:
        x = ((word ^ (argument % 2**32)) + 0x1E3779B9) % 2**32
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15)) * 0x045D9F3B % 2**32
        word = x ^ (x >> 16)
    return word >> 1


def permutation(count: int, *numbers: int) -> list[int]:
    """In which order a draw takes the numbers below `count`: a network of four rounds, applied until it is inside."""
    half = 0
    while 4**half < count:
        half += 1
    word, places = random(*numbers), []
    for x in range(count):
        inside = False
        while not inside:
            left, right = divmod(x, 2**half)
            for j in range(4):
                left, right = right, left ^ random(word, j, right) % 2**half
            x = left * 2**half + right
            inside = x < count
        places.append(x)
    return places


def bigbird(heads: int, n: int, block: int, random_blocks: int, seed: int, span: int) -> np.ndarray:
    """Released code: google-research/bigbird, bigbird/core/attention.py, 5e7d375.

    The blocks that `bigbird_block_rand_mask` permutes for each row, with `last_idx` behind `span` blocks, permuted as
    the language does, and `full_bigbird_mask`. Without a `last_idx`, as in no released model, its last two rows may
    draw what their window has.
    """
    blocks = -(-n // block)
    middle, last = np.arange(1, blocks - 1), span - 1
    by_block = np.zeros((heads, blocks, blocks), bool)
    for head in range(heads):
        for row in range(1, blocks - 1):
            start, end = row - 2, row
            if row == 1:
                legal = middle[2:last]
            elif row == 2:
                legal = middle[3:last]
            elif start > last:
                legal = middle[:last]
            elif end + 1 == last:
                legal = middle[:start]
            else:
                legal = np.concatenate([middle[:start], middle[end + 1 : last]])
            drawn = [each for each in permutation(blocks, seed, head, row) if each in legal][:random_blocks]
            by_block[head, row, row - 1 : row + 2] = True
            by_block[head, row, drawn] = True
    by_block[:, [0, -1], :] = by_block[:, :, [0, -1]] = True
    return np.kron(by_block, np.ones((block, block), bool))[:, :n, :n]


def stochastic(heads: int, n: int, size: int, seed: int) -> np.ndarray:
    """No public code: the paper's text."""
    order = sorted(range(n), key=lambda token: (random(seed, token), token))
    attends = np.zeros((n, n), bool)
    for place, token in enumerate(order):
        attends[token, order[max(place - size // 2, 0) : place + size // 2 + 1]] = True
    return attends


def causal_stochastic(heads: int, n: int, size: int, seed: int) -> np.ndarray:
    """No public code: the paper's text."""
    return stochastic(heads, n, size, seed) & np.tri(n, dtype=bool)


# Combiner


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


def cut(pattern: str, source: Callable[..., Tensor]) -> Computes:
    """Five blocks of four tokens."""
    return Computes("language/combiner", pattern, {"n": 20, "block": 4}, partial(source, block=4), heads=2)


DIVIDED = {"n": 96, "block": 8, "random_blocks": 3, "seed": 7}
RAGGED = {"n": 61, "block": 4, "random_blocks": 2, "seed": -3}
SHARDS = {"n": 50, "block": 3, "local": 2}
ROWS = [
    Attends("language/longlora", "longlora", {"n": 48, "group": 12}, longlora, heads=7),
    Attends("language/longlora", "longlora", {"n": 35, "group": 7}, longlora, heads=4),
    Attends("language/longlora", "longlora", {"n": 29, "group": 8}, longlora, heads=2),
    Attends("language/longlora", "longlora_rolled", {"n": 48, "group": 12}, longlora_rolled, heads=7),
    Attends("language/longlora", "longlora_rolled", {"n": 32, "group": 8}, longlora_rolled, heads=2),
    Attends("language/sink_lora", "sink_lora", {"n": 48, "group": 12, "sinks": 2}, sink_lora, heads=7),
    Attends("language/sink_lora", "sink_lora", {"n": 40, "group": 7, "sinks": 1}, sink_lora, heads=2),
    Attends("language/s2", "s2", SHARDS | {"stride": 4, "dense": 0}, s2(4), heads=4),
    Attends("language/s2", "s2", SHARDS | {"stride": 13, "dense": 0}, s2(6), heads=6),
    Attends("language/s2", "s2", SHARDS | {"stride": 4, "dense": 1}, s2(3), heads=6, key_heads=3),
    Attends("language/power", "power", {"n": 60, "block": 3, "local": 2, "sinks": 1}, power),
    Attends("language/power", "power", {"n": 33, "block": 1, "local": 1, "sinks": 0}, power),
    Attends("language/block_causal", "block_causal", {"n": 31, "block": 4}, block_causal),
    Computes("language/rat", "rat", {"n": 20, "chunk": 4}, partial(rat, chunk=4), heads=2),
    Computes("language/rat", "rat", {"n": 15, "chunk": 1}, partial(rat, chunk=1)),
    Attends("language/block_transformer", "token_decoder", {"n": 31, "block": 4}, token_decoder),
    Attends("language/block_transformer", "block_decoder", {"n": 31, "block": 4}, block_decoder),
    Attends("language/cross_attention", "aligned", {"targets": 17, "sources": 60, "size": 9}, aligned),
    Attends("language/cross_attention", "cross_attention", {"targets": 3, "sources": 8}, cross_attention),
    Attends("language/bigbird", "bigbird", DIVIDED | {"span": 6}, bigbird, heads=3),
    Attends("language/bigbird", "bigbird", DIVIDED | {"span": 99}, bigbird, heads=2),
    Attends("language/bigbird", "bigbird", RAGGED | {"span": 16}, bigbird, heads=2),
    Attends("language/stochastic", "stochastic", {"n": 50, "size": 9, "seed": 1}, stochastic),
    Attends("language/stochastic", "causal_stochastic", {"n": 50, "size": 9, "seed": 2}, causal_stochastic),
    Attends("language/combiner", "combiner_fixed", {"n": 41, "block": 6}, combiner_fixed),
    Attends("language/combiner", "combiner_fixed", {"n": 3, "block": 8}, combiner_fixed),
    cut("combiner_fixed_given", combiner_fixed_given),
    cut("combiner_summary", combiner_summary),
    cut("combiner_axial", combiner_axial),
    Attends("language/combiner", "combiner_logsparse", {"n": 16}, combiner_logsparse),
    Attends("language/combiner", "combiner_logsparse", {"n": 27}, combiner_logsparse),
    Attends("language/combiner", "combiner_logsparse", {"n": 12}, combiner_logsparse),
]

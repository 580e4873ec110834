"""Every example against its rule written a second time (`oracles.py`), at sizes that no tile divides."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.ir.meaning.evaluate import Pairs
from tests.catalogue import oracles

EXAMPLES = Path(__file__).parents[2] / "examples"

CASES = [
    ("language/dense", "dense", {"n": 7}, 1, oracles.dense),
    ("language/causal", "causal_dense", {"n": 13}, 1, oracles.causal),
    ("language/sliding_window", "sliding_window", {"n": 41, "size": 7}, 1, oracles.sliding_window),
    ("language/sliding_window", "sliding_window", {"n": 1, "size": 1}, 1, oracles.sliding_window),
    ("language/dilated_window", "dilated_window", {"n": 61, "size": 7, "dilation": 3}, 1, oracles.dilated_window),
    ("language/dilated_window", "dilated_window", {"n": 61, "size": 8, "dilation": 2}, 1, oracles.dilated_window),
    ("language/streaming", "streaming", {"n": 53, "size": 9, "sinks": 3}, 1, oracles.streaming),
    (
        "language/longformer",
        "longformer",
        {"n": 57, "size": 9, "dilation": 2, "globals": 2},
        1,
        oracles.longformer,
    ),
    ("language/sparse_transformer", "strided", {"n": 50, "stride": 7}, 1, oracles.sparse_strided),
    ("language/sparse_transformer", "fixed", {"n": 50, "stride": 8, "summary": 3}, 1, oracles.sparse_fixed),
    ("language/prefix_lm", "prefix_lm", {"n": 31, "prefix": 11}, 1, oracles.prefix_lm),
    ("language/log_sparse", "log_sparse", {"n": 70}, 1, oracles.log_sparse),
    ("language/power", "power", {"n": 60, "block": 3, "local": 2, "sinks": 1}, 1, oracles.power),
    ("language/power", "power", {"n": 33, "block": 1, "local": 1, "sinks": 0}, 1, oracles.power),
    (
        "language/block_rank",
        "block_rank",
        {"instruction": 5, "documents": 3, "length": 7, "query": 4},
        1,
        oracles.block_rank,
    ),
    ("language/block_transformer", "token_decoder", {"n": 31, "block": 4}, 1, oracles.token_decoder),
    ("language/block_transformer", "block_decoder", {"n": 31, "block": 4}, 1, oracles.block_decoder),
    ("language/block_causal", "block_causal", {"n": 31, "block": 4}, 1, oracles.block_causal),
    ("language/block_diffusion", "block_diffusion", {"n": 23, "block": 4}, 1, oracles.block_diffusion),
    ("language/block_diffusion", "block_diffusion", {"n": 9, "block": 1}, 1, oracles.block_diffusion),
    (
        "language/shared_question",
        "shared_question",
        {"question": 6, "answers": 3, "length": 5},
        1,
        oracles.shared_question,
    ),
    ("language/global_sliding", "global_sliding", {"n": 40, "size": 5, "globals": 3}, 1, oracles.global_sliding),
    ("language/gemma", "local_layer", {"n": 40, "size": 6}, 1, oracles.sliding_window),
    ("language/gemma", "global_layer", {"n": 19}, 1, oracles.causal),
    ("language/cross_attention", "aligned", {"targets": 17, "sources": 60, "size": 9}, 1, oracles.aligned),
    ("vision/hilbert_window", "hilbert_layout", {"h": 7, "w": 10, "kernel": 5}, 1, oracles.square_window),
    ("language/combiner", "combiner_fixed", {"n": 41, "block": 6}, 1, oracles.combiner_fixed),
    ("language/combiner", "combiner_fixed", {"n": 3, "block": 8}, 1, oracles.combiner_fixed),
    ("routing/core_context", "core_context", {"n": 53, "group": 4, "size": 9}, 1, oracles.core_context),
    ("routing/core_context", "core_context", {"n": 21, "group": 5, "size": 1}, 1, oracles.core_context),
    ("vision/super_token", "gather", {"h": 9, "w": 14, "size": 3}, 1, oracles.super_gather),
    ("vision/super_token", "broadcast", {"h": 10, "w": 13, "size": 3}, 1, oracles.super_broadcast),
    ("vision/super_token", "broadcast", {"h": 1, "w": 13, "size": 2}, 1, oracles.super_broadcast),
    ("vision/agent", "gather", {"h": 5, "w": 7, "size": 3}, 1, oracles.everything),
    ("vision/agent", "broadcast", {"h": 5, "w": 7, "size": 3}, 1, oracles.everything),
    ("vision/lookup", "gather", {"h": 4, "w": 6, "size": 2}, 1, oracles.everything),
    ("vision/lookup", "broadcast", {"h": 4, "w": 6, "size": 2}, 1, oracles.everything),
]


@pytest.mark.parametrize(
    ("file", "pattern", "values", "heads", "rule"), CASES, ids=[f"{case[1]}-{n}" for n, case in enumerate(CASES)]
)
def test_example_attends_what_its_rule_says(
    file: str, pattern: str, values: dict[str, object], heads: int, rule: object
) -> None:
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[pattern].bind(heads=heads, **values)
    allowed = rule(**values)
    expected = [[allowed(0, q, k) for k in range(mask.key_length)] for q in range(mask.query_length)]
    np.testing.assert_array_equal(mask.dense(), expected)


BY_HEAD = [
    ("language/s2", "s2", {"n": 50, "block": 3, "local": 2, "stride": 4}, oracles.s2),
    ("language/longlora", "longlora", {"n": 48, "group": 12}, oracles.longlora),
    ("language/longlora", "longlora", {"n": 35, "group": 7}, oracles.longlora),
    ("language/sink_lora", "sink_lora", {"n": 48, "group": 12, "sinks": 2}, oracles.sink_lora),
    ("language/sink_lora", "sink_lora", {"n": 40, "group": 7, "sinks": 1}, oracles.sink_lora),
    ("vision/ultragen", "ultragen", {"h": 7, "w": 10, "size": 5, "ratio": 3}, oracles.ultragen),
]


@pytest.mark.parametrize(
    ("file", "pattern", "values", "rule"), BY_HEAD, ids=[f"{case[1]}-{n}" for n, case in enumerate(BY_HEAD)]
)
def test_heads_attend_what_their_rules_say(file: str, pattern: str, values: dict[str, object], rule: object) -> None:
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[pattern].bind(heads=7, **values)
    allowed = rule(7, **values)
    for head in range(7):
        expected = [[allowed(head, q, k) for k in range(mask.key_length)] for q in range(mask.query_length)]
        np.testing.assert_array_equal(mask.dense(head=head), expected)


def test_stochastic_attention_is_a_window_over_a_permutation() -> None:
    """Of whatever order: a symmetric band after it, as many neighbours as a window has, and another one by seed."""
    module = maskdsl.load(EXAMPLES / "language/stochastic.attn")
    first, other = (module["stochastic"].bind(n=50, size=9, seed=seed).dense() for seed in (1, 2))
    assert (first == first.T).all() and (first != other).any()
    window = maskdsl.load(EXAMPLES / "language/dilated_window.attn")["dilated_window"].bind(n=50, size=9, dilation=1)
    np.testing.assert_array_equal(np.sort(first.sum(axis=1)), np.sort(window.dense().sum(axis=1)))
    np.testing.assert_array_equal(
        np.linalg.eigvalsh(first.astype(float)).round(6), np.linalg.eigvalsh(window.dense().astype(float)).round(6)
    )
    causal = module["causal_stochastic"].bind(n=50, size=9, seed=1).dense()
    np.testing.assert_array_equal(causal, np.tril(first))
    laid = module["stochastic"].bind(n=512, size=65, seed=0)
    assert laid.tiles((64, 64)).partial_count() + laid.tiles((64, 64)).full_count() < 64 * 0.4


@pytest.mark.parametrize("seed", [0, 5])
def test_one_proxy_is_drawn_for_each_window(seed: int) -> None:
    module = maskdsl.load(EXAMPLES / "routing/proxy_tokens.attn")
    sizes = {"t": 3, "h": 5, "w": 7, "window_t": 2, "window_h": 4, "window_w": 3, "seed": seed}
    among, broadcast = (module[name].bind(**sizes).dense() for name in ("proxy_tokens", "proxy_broadcast"))
    proxies = broadcast[0]
    for window in product(oracles.windows(2, 3), oracles.windows(4, 5), oracles.windows(3, 7)):
        assert sum(proxies[(t * 5 + y) * 7 + x] for t, y, x in product(*window)) == 1
    np.testing.assert_array_equal(broadcast, np.broadcast_to(proxies, broadcast.shape))
    np.testing.assert_array_equal(among, proxies[:, None] & proxies)


def test_bigbird_has_its_parts() -> None:
    """All but the random blocks is a rule; those are at most `random_blocks` further key blocks a query block."""
    mask = maskdsl.load(EXAMPLES / "language/bigbird.attn")["bigbird"].bind(n=150, block=8, random_blocks=2)
    dense = mask.dense()
    block = np.arange(150) // 8
    query, key = block[:, None], block[None, :]
    local = (abs(query - key) <= 1) | np.isin(query, (0, 18)) | np.isin(key, (0, 18))
    assert dense[local].all()
    drawn = dense & ~local
    assert drawn.any()
    for number in range(19):
        assert len(set(key[:, drawn[block == number].any(axis=0)].ravel())) <= 2
    per_block = dense[np.ix_(np.arange(0, 150, 8), np.arange(0, 150, 8))]
    np.testing.assert_array_equal(dense, per_block[query, key])


def test_packed_documents_attend_themselves() -> None:
    rng = np.random.default_rng(3)
    document = rng.integers(0, 4, 40)
    prefix_end = rng.integers(0, 40, 40)
    module = maskdsl.load(EXAMPLES / "language/packed.attn")
    same = document[:, None] == document[None, :]
    causal = np.tri(40, dtype=bool)
    np.testing.assert_array_equal(module["packed"].bind(n=40).dense(document=document), same & causal)
    np.testing.assert_array_equal(module["packed_full"].bind(n=40).dense(document=document), same)
    prefix = maskdsl.load(EXAMPLES / "language/prefix_lm.attn")["prefix_packed"].bind(n=40)
    expected = same & (causal | (np.arange(40)[None, :] < prefix_end[:, None]))
    np.testing.assert_array_equal(prefix.dense(document=document, prefix_end=prefix_end), expected)


def test_drafts_see_the_context_and_their_ancestors() -> None:
    parents = [-1, 0, 0, 1, 1, 4, 2]
    paths = []
    for node in range(7):
        path = {node}
        while (node := parents[node]) >= 0:
            path.add(node)
        paths.append(path)
    ancestor = np.array([[node in path for node in range(7)] for path in paths])
    mask = maskdsl.load(EXAMPLES / "language/draft_tree.attn")["draft_tree"].bind(drafts=7, n=18)
    expected = np.array([[key < 11 or key - 11 in path for key in range(18)] for path in paths])
    np.testing.assert_array_equal(mask.dense(ancestor=ancestor[None]), expected)


def test_hilbert_window_follows_the_curve() -> None:
    """Along the curve every token has its neighbours: the relation is a band when laid out, whatever the curve."""
    mask = maskdsl.load(EXAMPLES / "vision/hilbert_window.attn")["hilbert_window"].bind(h=8, w=8, size=5)
    keys = mask.dense().sum(axis=1)
    assert sorted(keys) == sorted([3, 4, *[5] * 60, 4, 3])
    tiles = mask.tiles(block=(8, 8)).classes()
    rows, columns = np.nonzero(tiles)
    assert abs(rows - columns).max() == 1


@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20), (12, 64)])
def test_t5_buckets_are_the_published_ones(buckets: int, distance: int) -> None:
    n = 150
    mask = maskdsl.load(EXAMPLES / "language/t5.attn")["t5"].bind(n=n, buckets=buckets, distance=distance)
    table = np.arange(buckets, dtype=np.float64)[None]
    queries, keys = np.arange(n)[:, None], np.arange(n)[None, :]
    pairs = Pairs(mask.ir, queries, keys, inputs={"table": table})
    found = pairs.evaluate(mask.ir.scores[0], np.asarray(True), np.zeros((n, n)))
    expected = [[oracles.t5_bucket(k - q, buckets, distance) for k in range(n)] for q in range(n)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("n", "block", "levels"), [(45, 16, 4), (37, 8, 2), (3, 5, 3)])
def test_pyramid_reads_each_block_at_its_level(n: int, block: int, levels: int) -> None:
    """Attention written out over the means that each query is given, with the logarithms of what they stand for."""
    mask = maskdsl.load(EXAMPLES / "routing/pyramid.attn")["pyramid"].bind(n=n, block=block, levels=levels, heads=2)
    chunks = -(-n // block)
    level = np.random.default_rng(0).integers(-1, levels, (2, chunks, chunks))
    q, k, v = (torch.randn(1, 2, n, 8, dtype=torch.float64) for _ in range(3))
    out, lse = mask.compile("tiled")(q, k, v, level=torch.tensor(level), return_lse=True)
    for head, query in product(range(2), range(n)):
        scores, values = [], []
        for at, size in ((at, 2**each) for each in range(levels) for at in range(0, n, 2**each)):
            if 2.0 ** level[head, query // block, at // block] == size:
                tokens = slice(at, min(at + size, n))
                scores.append(q[0, head, query] @ k[0, head, tokens].mean(0) / 8**0.5 + np.log(min(size, n - at)))
                values.append(v[0, head, tokens].mean(0))
        if not scores:
            assert lse[0, head, query] == -torch.inf and not out[0, head, query].any()
            continue
        stacked = torch.stack(scores)
        torch.testing.assert_close(lse[0, head, query], stacked.logsumexp(0))
        torch.testing.assert_close(out[0, head, query], stacked.softmax(0) @ torch.stack(values))


def test_every_example_binds_at_its_defaults_and_is_documented() -> None:
    files = sorted(EXAMPLES.rglob("*.attn"))
    assert len(files) >= 20
    for file in files:
        module = maskdsl.load(file)
        for name in module:
            pattern = module[name]
            assert "Source:" in pattern.doc or len(module) > 1, f"{file.name}: {name} says no source"
            assert pattern.doc, f"{file.name}: {name} has no description"
            pattern.bind(heads=4)

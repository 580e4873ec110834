"""Pools by a coordinate, pools in queries, and what pools know of themselves: against scatter operations in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import maskdsl
from maskdsl.base.diagnostics import AttnError

TEXT = """
pattern clusters(n = 19, count = 6) {
    space tokens[n]
    input cluster: int[batch, tokens]
    space means = mean(tokens by cluster, count)
    space tops = max(tokens by cluster, count)
    space lows = min(means, 2)
    queries tokens
    keys tops ++ tokens ++ means ++ lows
    attend tokens -> tokens where k.tokens <= q.tokens
    attend tokens -> means where k.last <= q.tokens
    attend tokens -> tops where k.first <= q.tokens
    attend tokens -> lows
    score s + log(float(max(k.count, 1))) if all -> means else s
}
pattern asking(n = 19, count = 6) {
    space tokens[n]
    input cluster: int[batch, tokens]
    space groups = mean(tokens by cluster, count)
    space tops = min(groups by other)
    coord groups.other = groups % 3 - 1
    queries groups ++ tops ++ tokens
    keys tokens ++ groups
    attend all -> tokens
    attend groups -> groups
}
"""
MODULE = maskdsl.parse(TEXT)
BACKENDS = ["tiled", "reference"]
ROWS = [[-1] * 19, [5] * 19, [0, 0, 1, 1, 1, 3, 3, 3, 3, 5, -1, -7, 5, 0, 4, 4, 4, 4, 4], [2, *[-1] * 18]]
"""Clusters: of tokens in none, of all tokens, some without tokens, one of one token."""


def pooled(x: Tensor, numbers: Tensor, count: int, kind: str, weights: Tensor) -> tuple[Tensor, Tensor]:
    """[batch, heads, pools, dim] and how many tokens each has, by scatter operations; `weights` are [batch, tokens]."""
    inside = (numbers >= 0) & (numbers < count) & (weights > 0)
    index = torch.where(inside, numbers, count)
    sizes = torch.zeros(len(x), count + 1, dtype=torch.int64).scatter_add(1, index, weights)[:, :count]
    spread = index[:, None, :, None].expand(x.shape)
    blank = x.new_zeros(*x.shape[:2], count + 1, x.shape[3])
    if kind == "mean":
        values = blank.scatter_add(2, spread, x * weights[:, None, :, None])[:, :, :count]
        return values / sizes.clamp(min=1)[:, None, :, None], sizes
    return blank.scatter_reduce(2, spread, x, f"a{kind}", include_self=False)[:, :, :count], sizes


def dense(q: Tensor, k: Tensor, v: Tensor, attends: Tensor, bias: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Attention and log-sum-exp; `attends` is bool [batch, queries, keys]."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    s = (q @ k.mT / q.shape[-1] ** 0.5 + bias).masked_fill(~attends[:, None], -torch.inf)
    empty = ~attends.any(-1)[:, None, :, None]
    p = s.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
    return p @ v, s.logsumexp(-1)


def ends(cluster: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first and the last token of each cluster, [batch, count]."""
    where = cluster[:, None] == torch.arange(count)[:, None]
    positions = torch.arange(cluster.shape[1]).expand_as(where)
    return torch.where(where, positions, 99).amin(-1), torch.where(where, positions, -1).amax(-1)


def of_clusters(q: Tensor, k: Tensor, v: Tensor, cluster: Tensor, count: int) -> tuple[Tensor, Tensor]:
    one = torch.ones_like(cluster)
    position, (first, last) = torch.arange(cluster.shape[1])[:, None], ends(cluster, count)

    def keys(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        means, sizes = pooled(x, cluster, count, "mean", one)
        pairs = (torch.arange(count) // 2).expand(len(x), -1)
        lows, low_sizes = pooled(means, pairs, -(-count // 2), "min", sizes)
        return torch.cat([pooled(x, cluster, count, "max", one)[0], x, means, lows], 2), sizes, low_sizes

    whole, sizes, low_sizes = keys(k)
    batch, n = cluster.shape
    some, low = (sizes > 0)[:, None], (low_sizes > 0)[:, None]
    parts = (
        (first[:, None] <= position) & some,
        (position >= position.T).expand(batch, -1, -1),
        (last[:, None] <= position) & some,
        low.expand(-1, n, -1),
    )
    logs = sizes.clamp(min=1).double().log()
    bias = torch.cat([torch.zeros(batch, count + n), logs, torch.zeros_like(low_sizes)], 1)[:, None, None]
    return dense(q, whole, keys(v)[0], torch.cat(parts, 2), bias)


def of_asking(q: Tensor, k: Tensor, v: Tensor, cluster: Tensor, count: int) -> tuple[Tensor, Tensor]:
    one = torch.ones_like(cluster)
    groups, sizes = pooled(q, cluster, count, "mean", one)
    other = torch.arange(count) % 3 - 1
    tops, top_sizes = pooled(groups, other.expand(len(q), -1), int(other.max()) + 1, "min", sizes)
    k, v = (torch.cat([x, pooled(x, cluster, count, "mean", one)[0]], 2) for x in (k, v))
    asks = torch.cat([sizes > 0, top_sizes > 0, one > 0], 1)[..., None]
    is_group = torch.cat([torch.ones_like(sizes), torch.zeros_like(top_sizes), torch.zeros_like(one)], 1)[..., None] > 0
    attends = torch.cat([asks.expand(-1, -1, cluster.shape[1]), asks & is_group & (sizes > 0)[:, None]], 2)
    return dense(torch.cat([groups, tops, q], 2), k, v, attends)


ORACLES = {"clusters": of_clusters, "asking": of_asking}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ORACLES)
def test_results_and_gradients(name: str, backend: str) -> None:
    torch.manual_seed(0)
    cluster = torch.tensor(ROWS)
    leaves = [torch.randn(4, heads, 19, 4, dtype=torch.float64).requires_grad_() for heads in (4, 2, 2)]
    found = MODULE[name].compile(heads=4, backend=backend)(*leaves, cluster=cluster, return_lse=True)
    expected = ORACLES[name](*leaves, cluster, 6)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    toward = torch.randn_like(found[0])
    for one, other in zip(
        *(torch.autograd.grad((out * toward).sum(), leaves) for out in (found[0], expected[0])), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("declared", ["coord image.g = image // 4", "coord g = image // 4", "coord g = i // 4"])
def test_pooled_tokens_that_stand_in_no_sequence_have_coordinates(declared: str) -> None:
    text = f"space text[5] space image[16] {declared} space groups = mean(image by g, 4) queries text keys groups"
    attention = maskdsl.parse(f"pattern p() {{ {text} attend all -> all }}")["p"].bind().compile("reference")
    q, k, v = torch.randn(1, 1, 5, 4), *torch.randn(2, 1, 1, 16, 4)
    pooled = [x.unflatten(2, (4, 4)).mean(dim=3) for x in (k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(q, *pooled)
    torch.testing.assert_close(attention(q, k, v), expected)


def test_coordinates_of_pools_that_are_pooled() -> None:
    text = "space image[16] space fine = mean(image, 2) coord fine.g = fine // 2 space coarse = mean(fine by g, 4)"
    mask = maskdsl.parse(f"pattern p() {{ {text} queries image keys coarse attend all -> all }}")["p"].bind()
    assert mask.dense().shape == (16, 4)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_short_ones(n: int) -> None:
    cluster = torch.arange(n).expand(2, -1) % 2
    tensors = [torch.randn(2, 1, n, 4, dtype=torch.float64) for _ in "qkv"]
    for name, oracle in ORACLES.items():
        found = MODULE[name].compile(count=2)(*tensors, cluster=cluster, return_lse=True)
        for one, other in zip(found, oracle(*tensors, cluster, 2), strict=True):
            torch.testing.assert_close(one, other)


def test_gradients_of_extremes_are_shared_evenly() -> None:
    text = (
        "pattern p(n = 6) { space t[n]  coord c = t // 3  space m = min(t by c)  queries t  keys m  attend all -> all }"
    )
    v = torch.tensor([2.0, 1, 1, 7, 7, 7]).view(1, 1, 6, 1).requires_grad_()
    maskdsl.parse(text)["p"].compile()(torch.zeros(1, 1, 6, 1), torch.zeros(1, 1, 6, 1), v).sum().backward()
    assert v.grad is not None
    torch.testing.assert_close(v.grad.flatten(), 3 * torch.tensor([0, 0.5, 0.5, 1 / 3, 1 / 3, 1 / 3]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mean_of_means_counts_each_token_once(backend: str) -> None:
    text = """
    pattern p(n = 7) {
        space t[n]
        space pairs = mean(t, 3)
        space all_of_it = mean(pairs, 3)
        space one[1]
        queries one
        keys all_of_it
        attend all -> all
    }"""
    x = torch.randn(1, 1, 7, 3, dtype=torch.float64)
    out = maskdsl.parse(text)["p"].compile(backend=backend)(x[:, :, :1], x, x)
    torch.testing.assert_close(out, x.mean(2, keepdim=True))


@pytest.mark.parametrize("lengths", [(7, 9), (1, 1), (4, 8)])
def test_boxes_know_their_tokens(lengths: tuple[int, int]) -> None:
    """`first`, `last` and `count`, of boxes and of boxes of boxes, as positions in the image."""
    text = """
    pattern p(h, w) {
        space image[y = h, x = w]
        space coarse = mean(image, (2, 3))
        space top = mean(coarse, 2)
        space numbers[h * w + 1]
        queries numbers
        keys coarse ++ top
        attend q == k.FACT
    }"""
    h, w = lengths
    grid = torch.arange(h * w).view(h, w)
    boxes = [
        [
            grid[y : y + sides[0], x : x + sides[1]].flatten()
            for y in range(0, h, sides[0])
            for x in range(0, w, sides[1])
        ]
        for sides in ((2, 3), (4, 6))
    ]
    for fact, of in (("first", min), ("last", max), ("count", len)):
        found = maskdsl.parse(text.replace("FACT", fact))["p"].bind(h=h, w=w).dense().argmax(0)
        assert found.tolist() == [int(of(box)) for each in boxes for box in each], fact


def test_a_declared_coordinate_takes_its_place() -> None:
    text = """
    pattern p(n = 8) {
        space t[n]
        coord c = t // 4
        space m = mean(t by c, 3)
        coord m.count = 7 - m
        queries t
        keys m
        attend k.count == 7 or k.count == 5
    }"""
    assert maskdsl.parse(text)["p"].bind().dense()[0].tolist() == [True, False, False]  # the last one has no tokens


def test_static_pools_need_no_inputs_and_guard_nothing() -> None:
    text = """
    pattern p(n = 64) {
        space t[n]
        coord c = t // 4
        space m = mean(t by c)
        queries t
        keys t ++ m
        attend t -> m
    }"""
    mask = maskdsl.parse(text)["p"].bind()
    assert not mask.ir.inputs and not mask.ir.require
    assert mask.stats().total.attended == 64 * 16


def test_sinks_and_factors_of_pools_where_two_lengths_follow() -> None:
    text = """
    pattern p(n = 8, m = 6) {
        space t[n]
        space u[m]
        space g = mean(t, 3)
        queries g
        keys u
        attend all -> all
        sink float(q.count)
        weight float(q.last)
    }"""
    q, k, v = torch.randn(1, 1, 8, 4).double(), *torch.randn(2, 1, 1, 6, 4).double()
    found = maskdsl.parse(text)["p"].compile(follow=("n", "m"))(q, k, v, return_lse=True)
    pools = torch.stack([q[:, :, at : at + 3].mean(2) for at in (0, 3, 6)], dim=2)
    s = torch.cat([pools @ k.mT / 2, torch.tensor([3.0, 3, 2]).view(1, 1, 3, 1)], dim=3)
    expected = torch.tensor([2.0, 5, 7]).view(3, 1) * (s.softmax(-1)[..., :-1] @ v)
    torch.testing.assert_close(found, (expected, s.logsumexp(-1)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_some_queries_over_pools_of_the_keys_that_exist(backend: str) -> None:
    """Each entry gives what the pattern gives with keys of no cluster behind its length, and none of these tokens."""
    torch.manual_seed(1)
    cluster, lengths = torch.tensor(ROWS[1:]), torch.tensor([19, 12, 4])
    q, k, v = (torch.randn(3, 1, 19, 4, dtype=torch.float64) for _ in "qkv")
    text = """
    pattern p(n = 19) {
        space tokens[n]
        input cluster: int[batch, tokens]
        space means = mean(tokens by cluster, 6)
        queries tokens
        keys tokens ++ means
        attend tokens -> tokens where causal
        attend tokens -> means
    }"""
    attention = maskdsl.parse(text)["p"].compile(backend=backend)
    behind = torch.arange(19) >= lengths[:, None]
    rows = (lengths - 1).view(3, 1, 1, 1)
    whole = attention(q, k, v, cluster=cluster.masked_fill(behind, -1)).take_along_dim(rows, 2)
    found = attention(q.take_along_dim(rows, 2), k, v, query_start=lengths - 1, key_lengths=lengths, cluster=cluster)
    torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("score", ["dot(q, k)", "worth[k.groups] + 0.0 * q"])
@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_routes_do_not_select_pools_without_tokens(backend: str, score: str) -> None:
    """The best of the pools that have tokens, in a whole call and in a partial one."""
    text = f"""
    pattern p() {{
        space tokens[6]
        space groups = mean(tokens by cluster, 3)
        input cluster: int[tokens]
        input worth: float[3]
        queries tokens
        keys groups
        route picked = topk(1, {score})
        attend picked
    }}
    """
    cluster = torch.tensor([0, 2, 2, 0, 0, 2])
    worth = torch.tensor([0.5, 1.0, 0.25], dtype=torch.float64)
    q, k, v = (torch.randn(1, 2, 6, 8, dtype=torch.float64) for _ in range(3))
    pools = [torch.stack([x[:, :, cluster == number].mean(dim=2) for number in (0, 2)], dim=2) for x in (k, v)]
    scores = q @ pools[0].transpose(2, 3) if "dot" in score else worth[[0, 2]].expand(1, 2, 6, 2)
    expected = pools[1].gather(2, scores.argmax(dim=3, keepdim=True).expand(-1, -1, -1, 8))
    attention = maskdsl.parse(text)["p"].bind(heads=2).compile(backend)
    inputs = {"cluster": cluster} | ({} if "dot" in score else {"worth": worth})
    torch.testing.assert_close(attention(q, k, v, **inputs), expected)
    torch.testing.assert_close(attention(q[:, :, 2:], k, v, query_start=2, **inputs), expected[:, :, 2:])


OF_POOLS = {
    "a pool of pools": "dot(q, mean(k by pair))",
    "the best of pools": "max(dot(q, k) by k.pair)",
    "what the first pool reads": "dot(q, mean(k by pair)) + float(k.worth)",
}


@pytest.mark.parametrize("score", OF_POOLS.values(), ids=OF_POOLS)
@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_pools_without_tokens_are_in_no_group(backend: str, score: str) -> None:
    """Neither do routes select groups of such pools alone, nor do others count them; in whole calls and in partial."""
    text = f"""
    pattern p() {{
        space tokens[6]
        space groups = mean(tokens by cluster, 8)
        coord groups.pair = groups // 2
        input cluster: int[tokens]
        input worth: int[groups]
        queries tokens
        keys groups
        route picked = topk(1, {score})
        attend picked
    }}
    """
    cluster, worth = torch.tensor([0, 3, 3, 0, 1, 3]), torch.tensor([2, 0, 9, 1, 9, 9, 9, 9])
    q, k, v = (torch.randn(1, 2, 6, 8, dtype=torch.float64) for _ in range(3))
    keys, values = (torch.stack([x[:, :, cluster == n].mean(dim=2) for n in (0, 1, 3)], dim=2) for x in (k, v))
    products = q @ keys.transpose(2, 3)
    of_groups = products[..., :2].mean(dim=3) if "mean" in score else products[..., :2].amax(dim=3)
    of_groups = torch.stack([of_groups, products[..., 2]], dim=3)
    of_groups = of_groups + worth[[0, 3]] if "worth" in score else of_groups
    chosen = of_groups.argmax(dim=3, keepdim=True) == torch.tensor([0, 0, 1])
    expected = scaled_dot_product_attention(q, keys, values, attn_mask=chosen)
    attention = maskdsl.parse(text)["p"].bind(heads=2).compile(backend)
    inputs = {"cluster": cluster} | ({"worth": worth} if "worth" in score else {})
    torch.testing.assert_close(attention(q, k, v, **inputs), expected)
    torch.testing.assert_close(attention(q[:, :, 2:], k, v, query_start=2, **inputs), expected[:, :, 2:])


@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_scores_pool_no_pools_without_tokens(backend: str) -> None:
    text = """
    pattern p() {
        space tokens[6]
        space groups = mean(tokens by cluster, 4)
        coord groups.pair = groups // 2
        input cluster: int[tokens]
        queries tokens
        keys groups
        attend all -> all
        score dot(q, mean(k by pair))
    }
    """
    cluster = torch.tensor([0, 2, 2, 0, 1, 2])
    q, k, v = (torch.randn(1, 2, 6, 8, dtype=torch.float64) for _ in range(3))
    keys, values = (torch.stack([x[:, :, cluster == n].mean(dim=2) for n in (0, 1, 2)], dim=2) for x in (k, v))
    scores = q @ torch.stack([keys[:, :, :2].mean(dim=2)] * 2 + [keys[:, :, 2]], dim=3)
    found = maskdsl.parse(text)["p"].bind(heads=2).compile(backend)(q, k, v, cluster=cluster)
    torch.testing.assert_close(found, scores.softmax(dim=3) @ values)


def test_grids_of_pooled_queries() -> None:
    text = (
        "pattern p(h = 5, w = 6) { space a[y = h, x = w]  space c = mean(a, 2)  queries c  keys a  attend all -> all }"
    )
    module = maskdsl.parse(text)
    q, k, v = (torch.randn(2, 5, 6, 3, 4) for _ in "qkv")
    out, lse = module["p"].bind(heads=3).compile(layout="bnhd")(q, k, v, return_lse=True)
    assert out.shape == (2, 3, 3, 3, 4) and lse.shape == (2, 3, 3, 3)
    flat = [x.flatten(1, 2).transpose(1, 2) for x in (q, k, v)]
    torch.testing.assert_close(out.flatten(1, 2).transpose(1, 2), module["p"].bind(heads=3).compile()(*flat))


def test_lengths_follow_tensors_and_graphs_trace() -> None:
    attention = MODULE["asking"].compile(follow="n", count=3)
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for n in (1, 8):
        tensors = [torch.randn(1, 1, n, 4) for _ in "qkv"]
        expected = MODULE["asking"].bind(n=n, count=3).compile("reference")(*tensors, cluster=torch.zeros(1, n).long())
        for each in (attention, compiled):
            torch.testing.assert_close(each(*tensors, cluster=torch.zeros(1, n).long()), expected)


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("E330", lambda a, x, c: a(*x, cluster=c + 6)),
        ("E407", lambda a, x, c: a(x[0][:, :, :6], *x[1:], cluster=c)),
        ("E333", lambda a, x, c: a(*x, cluster=c, query_start=0)),
        ("E333", lambda a, x, c: a.varlen(*(y[0].mT for y in x), torch.tensor([0, 19]), cluster=c)),
    ],
)
def test_mistakes(code: str, call: Any) -> None:
    attention = MODULE["asking"].bind().compile()
    with pytest.raises(AttnError) as raised:
        call(attention, [torch.randn(1, 1, 19, 4) for _ in "qkv"], torch.tensor(ROWS[2:3]))
    assert [each.code for each in raised.value.diagnostics][:1] == [code], str(raised.value)


def test_explanations_say_which_pool_has_no_tokens() -> None:
    """Whatever the other side has of the same name."""
    text = """
    pattern p(n = 8) {
        space t[n]
        input c: int[t]
        space g = mean(t by c, 4)
        queries g ++ t
        keys t ++ g
        attend t -> g where k.last <= q.t
        score s + float(q.last) if g -> all else s
    }"""
    explanation = maskdsl.parse(text)["p"].bind().explain(4, 8 + 3, c=torch.arange(8) % 3)
    assert explanation.verdict == "query 4 does not attend key 11: <text>:5 forbids it"
    assert "the pool of the key has no tokens" in str(explanation)
    assert str(maskdsl.parse(text)["p"].bind().explain(11, 8, c=torch.arange(8) % 3)).endswith("allows it")

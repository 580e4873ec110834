"""Attention over graphs: every backend and kind of call against gathers and segment softmax in float64."""

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.analysis.tiles.mask_tiles import tiles_with_pairs
from maskdsl.ir.meaning.given_lists import holding
from maskdsl.runtime.backends import schedule

PATTERNS = maskdsl.parse("""
## GAT: scores of the two tokens of an edge and a number of the edge; each token attends itself too.
pattern graph(n = 61) {
    space tokens[n]
    input edge: sparse[tokens, tokens]
    input bias: float[heads, edge]
    input source: float[heads, tokens]
    input target: float[batch, heads, tokens]
    attend edge[q, k] or q == k
    scale 0.5
    score max(s + q.target + k.source, 0.2 * (s + q.target + k.source)) + (bias[head, q, k] if edge[q, k] else 0.0)
    weight sigmoid(bias[head, q, k]) if edge[q, k] else 1.0
}
pattern blocks(n = 40) {
    space tokens[n]
    input chosen: sparse[batch, heads, 5, 5]
    attend chosen[batch, head, q // 8, k // 8] and causal
}
""")
N, HEADS, DIM = 61, 2, 8


def segment_attention(pairs: Tensor, q, k, v, bias, source, target) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp in time of the edges; a token without edges attends itself alone."""
    own = torch.arange(N)
    rows, columns = torch.cat([pairs[0], own]), torch.cat([pairs[1], own])
    s = 0.5 * (q[:, :, rows] * k[:, :, columns]).sum(-1) + target[:, :, rows] + source[:, columns]
    s = torch.nn.functional.leaky_relu(s, 0.2)
    numbers = torch.cat([bias, bias.new_zeros(HEADS, N)], dim=-1)
    factors = torch.cat([bias.sigmoid(), bias.new_ones(HEADS, N)], dim=-1)
    s = s + numbers
    index = rows.expand(*s.shape[:2], -1)
    m_i = torch.full((*s.shape[:2], N), -torch.inf, dtype=s.dtype).scatter_reduce(2, index, s.detach(), "amax")
    p = (s - m_i.gather(2, index)).exp()
    l_i = torch.zeros_like(m_i).scatter_add(2, index, p)
    p = p / l_i.gather(2, index) * factors
    out = torch.zeros_like(q).index_add(2, rows, p.unsqueeze(-1) * v[:, :, columns])
    return out, l_i.log() + m_i


def graph() -> tuple[Tensor, dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(N, N, generator=generator) < 0.08
    dense[7] = False
    dense.fill_diagonal_(False)
    pairs = dense.nonzero().T
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)]
    shapes = {
        **dict.fromkeys("qkv", (3, HEADS, N, DIM)),
        "bias": (HEADS, pairs.shape[1]),
        "source": (HEADS, N),
        "target": (3, HEADS, N),
    }
    values = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    return pairs, {name: x.requires_grad_() for name, x in values.items()}


@pytest.fixture(params=["reference", "tiled", "gathered"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A backend; `gathered` is `tiled` with all rows that can gather their keys doing so."""
    if request.param != "gathered":
        return str(request.param)
    monkeypatch.setattr(schedule, "GATHERED", 0)
    return "tiled"


def test_a_graph_transformer_is_a_gather_and_a_segment_softmax(backend):
    pairs, values = graph()
    attention = PATTERNS["graph"].bind(heads=HEADS).compile(backend)
    out, lse = attention(**values, edge=pairs, return_lse=True)
    expected, expected_lse = segment_attention(pairs, **values)
    torch.testing.assert_close((out, lse), (expected, expected_lse))
    toward, toward_lse = torch.randn_like(out), torch.randn_like(lse)
    for found, wanted in zip(
        torch.autograd.grad([out, lse], [*values.values()], [toward, toward_lse]),
        torch.autograd.grad([expected, expected_lse], [*values.values()], [toward, toward_lse]),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def test_calls_with_some_of_the_tokens(backend):
    pairs, values = graph()
    q, k, v, *_ = (x.detach() for x in values.values())
    given = {"edge": pairs, **{name: x.detach() for name, x in values.items() if name not in "qkv"}}
    for attention in (
        PATTERNS["graph"].bind(heads=HEADS).compile(backend),
        PATTERNS["graph"].compile(backend, heads=HEADS),
    ):
        whole = attention(q, k, v, **given)
        torch.testing.assert_close(attention(q[:, :, 20:31], k, v, query_start=20, **given), whole[:, :, 20:31])
        flat = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
        ends = torch.arange(4) * N
        packed = attention.varlen(*flat, ends, **given)
        torch.testing.assert_close(packed, whole.transpose(1, 2).flatten(0, 1))
    mask = PATTERNS["graph"].bind(heads=HEADS)
    pages = [x.unflatten(2, (1, N)).transpose(1, 2).flatten(0, 1) for x in (k, v)]
    table = torch.arange(3)[:, None]
    paged = mask.compile(backend)(q[:, :, :5], *pages, query_start=0, page_table=table, page_size=N, **given)
    torch.testing.assert_close(paged, whole[:, :, :5])


def lists(dense: Tensor) -> tuple[Tensor, Tensor]:
    """Row starts and padded columns of a relation [batch, heads, rows, columns]."""
    counts = dense.sum(-1)
    starts = torch.nn.functional.pad(counts.cumsum(-1), (1, 0))
    columns = torch.full((*dense.shape[:2], int(starts[..., -1].max())), -1, dtype=torch.int32)
    for batch in range(dense.shape[0]):
        for head in range(dense.shape[1]):
            found = dense[batch, head].nonzero()[:, 1]
            columns[batch, head, : len(found)] = found
    return starts.int(), columns


def test_lists_of_blocks_of_each_head(backend):
    generator = torch.Generator().manual_seed(1)
    chosen = torch.rand(2, 4, 5, 5, generator=generator) < 0.4
    q, k, v = torch.randn(3, 2, 4, 40, DIM, generator=generator)
    attends = chosen.repeat_interleave(8, 2).repeat_interleave(8, 3).tril()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attends).nan_to_num(0)
    attention = PATTERNS["blocks"].bind(heads=4).compile(backend)
    torch.testing.assert_close(attention(q, k, v, chosen=lists(chosen)), expected)
    one = attention(q[:, :, 30:31], k[:, :, :31], v[:, :, :31], query_start=30, chosen=lists(chosen))
    torch.testing.assert_close(one, expected[:, :, 30:31])


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
@pytest.mark.parametrize("least", [schedule.GATHERED, 0])
def test_what_is_not_finite_stays_with_those_that_attend_it(poison, least, monkeypatch):
    monkeypatch.setattr(schedule, "GATHERED", least)
    pairs, values = graph()
    given = {name: x.detach().float() for name, x in values.items()}
    given["k"][0, 0, 5], given["v"][1, 1, 9] = poison, poison
    leaves = {name: x.requires_grad_() for name, x in given.items()}
    attention = PATTERNS["graph"].bind(heads=HEADS).compile("tiled")
    out = attention(**leaves, edge=pairs)
    grads = torch.autograd.grad(out, [leaves[name] for name in "qkv"], torch.ones_like(out))
    attends = torch.eye(N, dtype=torch.bool)
    attends[tuple(pairs)] = True
    for entry, head, key in ((0, 0, 5), (1, 1, 9)):
        assert (out[entry, head].isfinite().all(-1) == ~attends[:, key]).all()
    assert out[2].isfinite().all() and out[0, 1].isfinite().all()
    reached = attends[attends[:, 5]].any(0)
    assert grads[0][0, 0][~attends[:, 5]].isfinite().all() and grads[1][0, 0][~reached].isfinite().all()


def test_rows_with_few_keys_gather_them():
    """Of scattered graphs all do, of lists of tiles none; queries without keys and hubs are among them."""
    generator = torch.Generator().manual_seed(2)
    n = 640
    pattern = maskdsl.parse("pattern p(n = 640) { space t[n]  input edge: sparse[t, t]  attend edge[q, k] }")["p"]
    mask, dense = pattern.bind(heads=4), torch.rand(n, n, generator=generator) < 0.004
    dense[100], dense[101], dense[320:384, 128:192] = True, False, True
    tiles, (pairs,) = tiles_with_pairs(mask.ir, (64, 64), holding(mask.ir.inputs, {"edge": dense.nonzero().T}))
    assert pairs is not None
    blocks, rows = schedule.gathered_rows(pairs, tiles.head_classes[0], tiles)
    assert blocks.tolist() == [True] * 5 + [False] + [True] * 4  # the block of tiles that are full
    counts = [each.real.sum(1) for each in rows if each.real is not None]
    assert all(((2 * each > 0.99 * each.max()) | (each == 0)).all() for each in counts)
    q, k, v = (torch.randn(2, heads, n, DIM, generator=generator, requires_grad=True) for heads in (4, 2, 2))
    out = mask.compile("tiled")(q, k, v, edge=dense.nonzero().T)
    wide = [x.repeat_interleave(2, dim=1) for x in (k, v)]
    expected = torch.nn.functional.scaled_dot_product_attention(q, *wide, dense).nan_to_num(0)
    torch.testing.assert_close(out, expected)
    toward = torch.randn_like(out)
    toward[:, :, 101] = 0
    kept = torch.nn.functional.scaled_dot_product_attention(q, *wide, dense.index_fill(0, torch.tensor(101), True))
    for found, wanted in zip(
        torch.autograd.grad(out, [q, k, v], toward), torch.autograd.grad(kept, [q, k, v], toward), strict=True
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_lists_that_change_in_place_are_read_again():
    mask = PATTERNS["blocks"].bind(heads=1)
    attention, q = mask.compile(), torch.randn(1, 1, 40, DIM)
    starts, columns = lists(torch.ones(1, 1, 5, 5, dtype=torch.bool).tril())
    attention(q, q, q, chosen=(starts, columns))
    columns.fill_(-1)
    assert not attention(q, q, q, chosen=(starts, columns)).any()


def test_under_torch_compile():
    pairs, values = graph()
    attention = PATTERNS["graph"].bind(heads=HEADS).compile()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")
    for edges in (pairs, pairs.flip(1)):
        torch.testing.assert_close(compiled(**values, edge=edges), attention(**values, edge=edges))


def test_lists_of_key_heads_and_one_for_all_heads():
    generator = torch.Generator().manual_seed(3)
    text = "pattern p(n = 40) {{ space t[n]  input c: sparse[batch, {}, 5, 5]  attend c[batch, {}, q // 8, k // 8] }}"
    q, k, v = (torch.randn(2, heads, 40, DIM, generator=generator) for heads in (4, 2, 2))
    wide = [x.repeat_interleave(2, dim=1) for x in (k, v)]
    for dimension, index, count in (("key_heads", "key_head", 2), ("heads", "head", 1)):
        chosen = torch.rand(2, count, 5, 5, generator=generator) < 0.5
        attends = chosen.repeat_interleave(8, 2).repeat_interleave(8, 3).repeat_interleave(4 // count, 1)
        attention = maskdsl.parse(text.format(dimension, index))["p"].bind(heads=4, key_heads=2).compile()
        expected = torch.nn.functional.scaled_dot_product_attention(q, *wide, attends).nan_to_num(0)
        torch.testing.assert_close(attention(q, k, v, c=lists(chosen)), expected)
        torch.testing.assert_close(attention(q[:1], k[:1], v[:1], c=lists(chosen[:1])), expected[:1])

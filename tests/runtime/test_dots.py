"""Products of vectors in scores: every backend against the code of papers, in whole calls and in others."""

import inspect
import subprocess
import sys

import pytest
import torch

import maskdsl
from maskdsl.api.verify import verify
from maskdsl.base.diagnostics import AttnError
from maskdsl.codegen import products
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.calls import summand
from maskdsl.runtime.decode import decode_call, key_slices
from maskdsl.runtime.kernels import product_finder
from maskdsl.runtime.torch_ops.handle import Handle
from tests.support.dot_checks import bound, check_chunks, check_gradients, check_meaning, check_packed
from tests.support.dot_patterns import CASES

BACKENDS = usable_backends()


@pytest.mark.parametrize("name", CASES)
def test_meaning_is_that_of_the_papers(name: str) -> None:
    check_meaning(name)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_are_those_of_the_papers(name: str, backend: str) -> None:
    check_gradients(name, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["transformer_xl", "shaw", "shaw_values"])
def test_chunks_and_pages_are_rows_of_the_whole(name: str, backend: str) -> None:
    check_chunks(name, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["transformer_xl", "deberta", "vits"])
def test_packed_sequences_are_each_alone(name: str, backend: str) -> None:
    check_packed(name, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_input_of_one_dimension_is_a_vector(backend: str) -> None:
    text = """pattern p(n) {
        space t[n]
        input bias: float[dim]
        input shift: float[dim]
        attend causal
        score dot(q + bias, k - 0.5 * max(bias, 0.0)) * 0.3
        value v + shift
    }"""
    attention = maskdsl.parse(text)["p"].bind(n=33, heads=2).compile(backend)
    generator = torch.Generator().manual_seed(1)
    q, k, v = torch.randn(3, 1, 2, 33, 16, generator=generator, dtype=torch.float64).requires_grad_().unbind()
    bias, shift = torch.randn(2, 16, generator=generator, dtype=torch.float64).requires_grad_().unbind()
    scores = (q + bias) @ (k - 0.5 * bias.clamp(min=0)).mT * 0.3
    seen = torch.ones(33, 33, dtype=torch.bool).tril()
    expected = scores.masked_fill(~seen, -torch.inf).softmax(-1) @ (v + shift)
    out = attention(q, k, v, bias=bias, shift=shift)
    torch.testing.assert_close(out, expected)
    leaves = q, k, v, bias, shift
    found = torch.autograd.grad(out.sin().sum(), leaves)
    torch.testing.assert_close(found, torch.autograd.grad(expected.sin().sum(), leaves))


def test_a_layer_of_vits() -> None:
    """The module of transformers in float64, and its projections around the pattern."""
    modeling = pytest.importorskip("transformers.models.vits.modeling_vits")
    torch.manual_seed(0)
    config = modeling.VitsConfig(hidden_size=16, num_attention_heads=2, window_size=3, attention_dropout=0.0)
    layer = modeling.VitsAttention(config).double()
    x = torch.randn(2, 21, 16, dtype=torch.float64)
    q, k, v = (
        project(x).unflatten(-1, (2, 8)).transpose(1, 2) for project in (layer.q_proj, layer.k_proj, layer.v_proj)
    )
    text = CASES["vits"].text.replace("0.4", repr(8**-0.5))
    attention = maskdsl.parse(text)["vits"].bind(n=21, reach=3, heads=2).compile()
    out = attention(q, k, v, emb_rel_k=layer.emb_rel_k[0], emb_rel_v=layer.emb_rel_v[0])
    mine = layer.out_proj(out.transpose(1, 2).flatten(2))
    expected, _ = layer(x)
    torch.testing.assert_close(mine, expected)
    toward = torch.randn_like(expected)
    parameters = [*layer.parameters()]
    for one, other in zip(*(torch.autograd.grad(y, parameters, toward) for y in (mine, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_lengths_of_vectors_are_checked() -> None:
    text = "pattern p(n = 8) { space tokens[n] input r: float[n, 6] attend causal SCORE }"
    q = torch.randn(1, 1, 8, 4)
    for line in ("score dot(q, r[q - k])", "value v + r[q - k]"):
        attention = maskdsl.parse(text.replace("SCORE", line))["p"].bind().compile()
        with pytest.raises(AttnError, match="E379"):
            attention(q, q, q, r=torch.randn(8, 6))


MIXED = """
pattern sigmoids(n = 9) {
    space tokens[n]
    input r: float[n, dim]
    attend causal
    score tanh(s) + dot(q, k) * 0.1
    normalize none
    value v + r[q - k]
}
pattern by_key(n = 9) {
    space tokens[n]
    input r: float[n, dim]
    input g: float[n]
    attend window(5)
    score s + dot(q, r[abs(q - k)]) / sqrt(dim)
    normalize softmax by k
    weight g[abs(q - k)]
    value v * 2.0 + g[abs(q - k)] * r[abs(q - k)]
}
pattern branched(n = 9) {
    space tokens[n]
    input r: float[n, dim]
    value v - r[abs(q - k)]
    branch back { attend causal  score s + dot(q, r[q - k])  weight 0.5 }
    branch near { attend window(4)  weight float(q % 3) }
}
pattern pooled(n = 9, size = 3) {
    space tokens[n]
    coord c = i // size
    space pools = mean(tokens by c)
    queries tokens
    keys tokens ++ pools
    attend all -> all
    score s + dot(q, k) * 0.1 + dot(k, k) * 0.01
    sink 0.5
    value v * 2.0
}
pattern gathered(n = 11, size = 4) {
    space tokens[n]
    coord c = i // size - 1
    attend causal
    score dot(mean(q by c), k) + dot(q, max(k where i % 2 == 0 by c)) + s * 0.5
    score s + dot(root(k by c, heads = key_head), k) + dot(sum(q by c, heads = all), mean(q by i)) * 0.1
}
pattern tables(n = 9) {
    space tokens[n]
    input r: float[n, dim]
    input t: float[heads, dim]
    attend causal
    score s + dot(r[q - k], t[head]) - dot(t[head], r[abs(q - k)]) * 0.3 + dot(r[q - k], r[k % 3])
}
"""


@pytest.mark.parametrize("name", ["sigmoids", "by_key", "branched", "pooled", "gathered", "tables"])
def test_vectors_go_with_everything_else(name: str) -> None:
    """Other normalizations, branches, pools, sinks: against the plain meaning, with gradients in float64."""
    verdict = verify(maskdsl.parse(MIXED)[name], cases=2, seed=2)
    assert verdict.passed, verdict.failures


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropped_pairs_add_no_vector(backend: str) -> None:
    text = "pattern p(n = 20) { space tokens[n] input t: float[2, dim] attend causal value v + t[(q - k) % 2] }"
    q, k, v = (torch.randn(2, 2, 20, 4) for _ in range(3))
    ones, plain = maskdsl.parse(text)["p"], maskdsl.parse("pattern p(n = 20) { space tokens[n] attend causal }")["p"]
    out = ones.bind(heads=2).compile(backend)(q, k, v, t=torch.ones(2, 4), dropout_p=0.4, seed=3)
    torch.testing.assert_close(out, plain.bind(heads=2).compile(backend)(q, k, v + 1, dropout_p=0.4, seed=3))


@pytest.mark.parametrize("name", ["transformer_xl", "shaw_values"])
def test_many_products_are_computed_in_chunks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that they take memory linear in n; results and gradients are the same."""
    monkeypatch.setattr(product_finder, "MOST_PRODUCTS", 64)
    monkeypatch.setattr(product_finder, "_FEWEST_TOKENS", 16)
    calls: list[int] = []

    def counted(handle: Handle, q: torch.Tensor, *others: object) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(q.shape[2])
        return decode_call.attend(handle, q, *others)

    monkeypatch.setattr(summand, "attend", counted)
    check_gradients(name, "tiled")
    assert calls == [16, 16, 5]


KEYS = """
pattern sunk(n = 37) {
    space tokens[n]
    input r: float[heads, n, dim]
    input rows: float[n, dim]
    input logit: float[heads]
    input gate: float[heads, tokens]
    attend causal and q != 0 and k % 5 != 1
    score dot(k, r[head, q - k]) + s * 0.5 + dot(q, rows[q - k])
    sink logit[head]
    sink 0.0
    weight gate[head, q] * (1.0 if k < 9 else 0.5)
    value v + rows[q - k]
}
pattern apart(n = 37) {
    space tokens[n]
    input r: float[heads, n, dim]
    attend 5 < q - k < 12
    score dot(k, r[head, q - k])
}
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["sunk", "apart"])
def test_many_products_of_keys_are_computed_in_slices(name: str, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sinks count once, queries without keys in a slice or in all of them stay what they are, and gradients too."""
    mask = maskdsl.parse(KEYS)[name].bind(heads=2)
    results = []
    for few in (False, True):
        if few:
            monkeypatch.setattr(product_finder, "MOST_PRODUCTS", 64)
            monkeypatch.setattr(product_finder, "_FEWEST_TOKENS", 16)
        generator = torch.Generator().manual_seed(4)

        def leaf(*shape: int, generator: torch.Generator = generator) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

        given = {"q": leaf(2, 2, 37, 4), "k": leaf(2, 1, 37, 4), "v": leaf(2, 1, 37, 4), "r": leaf(2, 37, 4)}
        if name == "sunk":
            given |= {"rows": leaf(37, 4), "logit": leaf(2), "gate": leaf(2, 37)}
        out, lse = mask.compile(backend)(**given, return_lse=True)
        loss = out.sin().sum() + lse.nan_to_num(0, 0, 0).cos().sum()
        results.append([out, lse, *torch.autograd.grad(loss, [*given.values()])])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["deberta", "everything"])
def test_slices_of_keys_agree_with_released_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_finder, "MOST_PRODUCTS", 64)
    monkeypatch.setattr(product_finder, "_FEWEST_TOKENS", 16)
    sliced: list[tuple[int, int]] = []

    def counted(compiled: object, *others: object) -> tuple[torch.Tensor, torch.Tensor]:
        sliced.append(others[-1])
        return key_slices.attend_slices(compiled, *others)

    monkeypatch.setattr(summand, "attend_slices", counted)
    check_gradients(name, "tiled")
    assert sliced == [(16, 16)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_slices_of_keys_in_calls_with_some_of_the_tokens(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of queries against the first keys, keys of several lengths, and pages, one of them missing."""
    attention = maskdsl.parse(KEYS)["sunk"].bind(heads=2).compile(backend)
    q, k, v = (torch.randn(2, heads, 37, 4, dtype=torch.float64, requires_grad=True) for heads in (2, 1, 1))
    shapes = {"r": (2, 37, 4), "rows": (37, 4), "logit": (2,), "gate": (2, 37)}
    given = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    table = torch.arange(10).view(2, 5).masked_fill(torch.arange(5) == 1, -1)
    pages = [
        torch.nn.functional.pad(x, (0, 0, 0, 3)).unflatten(2, (5, 8)).transpose(1, 2).flatten(0, 1) for x in (k, v)
    ]
    calls = [
        ((q[:, :, 20:25], k[:, :, :30], v[:, :, :30]), {"query_start": 20}),
        ((q[:, :, :30], k, v), {"query_start": torch.tensor([0, 7]), "key_lengths": torch.tensor([37, 11])}),
        ((q[:, :, 30:], *pages), {"query_start": 30, "page_table": table}),
    ]
    for tensors, positions in calls:
        results = []
        for few in (2**27, 64):
            monkeypatch.setattr(product_finder, "MOST_PRODUCTS", few)
            monkeypatch.setattr(product_finder, "_FEWEST_TOKENS", 8)
            out, lse = attention(*tensors, **positions, **given, return_lse=True)
            grads = torch.autograd.grad(
                out.sin().sum() + lse.cos().nan_to_num(0, 0, 0).sum(), (q, k, v), retain_graph=True
            )
            results.append([out, lse, *grads])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


MEMORY = """
import torch
import maskdsl
from tests.support.memory import peak

pattern = maskdsl.parse('''pattern p(n) {
    space tokens[n]
    input r: float[n, dim]
    attend causal and q - k < 64
    score dot(k, r[(q - k) * (n // 64)])
}''')["p"]
n = 16384
q, k, v = (torch.randn(1, 1, n, 8, requires_grad=True) for _ in range(3))
r = torch.randn(n, 8, requires_grad=True)
attention = pattern.bind(n=n).compile("tiled")
small = pattern.bind(n=256).compile("tiled")
small(*(x[:, :, :256] for x in (q, k, v)), r=r[:256]).sum().backward()
before = peak()
attention(q, k, v, r=r).sum().backward()
print(peak() - before)
"""


def test_memory_does_not_grow_with_all_products_of_keys() -> None:
    """The products of all keys with all rows would be a gigabyte, and their gradient another."""
    ended = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 700e6


def test_pools_need_all_tokens() -> None:
    attention = maskdsl.parse(MIXED)["gathered"].bind(n=11).compile()
    q, k, v = (torch.randn(1, 1, 11, 4) for _ in range(3))
    with pytest.raises(AttnError, match="E380"):
        attention(q[:, :, 4:6], k, v, query_start=4)


def test_windows_have_the_entries_that_pairs_read() -> None:
    """Of the vectors of all distances, those that pairs attend at: half in a causal pattern, fewer in a window."""
    (product,) = bound("transformer_xl").ir.products
    assert [(window.first, window.count) for window in product.windows] == [(36, 37)]
    text = CASES["transformer_xl"].text.replace("attend causal", "attend causal and backward(512)")
    (product,) = maskdsl.parse(text)["transformer_xl"].bind(n=4096, heads=2).ir.products
    assert [(window.first, window.count) for window in product.windows] == [(4095, 512)]


def test_vectors_that_nobody_reads_reach_nothing() -> None:
    """Rows of NaN behind the window, a query that attends nothing with a vector outside of its table."""
    pattern = maskdsl.parse("""
    pattern p(n) {
        space tokens[n]
        input r: float[n, dim]
        input u: float[4, dim]
        attend causal and q - k < 5 and q < 16
        score dot(q + u[q // 4], k) + dot(q, r[q - k])
    }
    """)["p"]
    attention = pattern.bind(n=20).compile()
    q, k, v = (torch.randn(1, 1, 20, 8, requires_grad=True) for _ in range(3))
    r, u = torch.randn(20, 8), torch.randn(4, 8, requires_grad=True)
    r[5:] = torch.nan
    r.requires_grad_()
    with torch.no_grad():
        q[:, :, 16:] = torch.nan
    out = attention(q, k, v, r=r, u=u)
    assert out.isfinite().all()
    for grad in torch.autograd.grad(out.square().sum(), (q, k, v, r, u)):
        assert grad.isfinite().all()


FUNCTIONS = sorted(name for name, each in vars(products).items() if inspect.isfunction(each))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inputs_may_have_the_names_of_functions(name: str) -> None:
    """Of those beside the function that is generated."""
    text = "pattern p(n) {{ space t[n] input {0}: float[n, dim] attend causal score s + dot(q, {0}[k]) }}"
    q, k, v = torch.randn(3, 1, 2, 7, 8, generator=torch.Generator().manual_seed(0))
    table = torch.randn(7, 8, generator=torch.Generator().manual_seed(1))
    found, expected = (
        maskdsl.parse(text.format(each))["p"].bind(n=7).compile()(q, k, v, **{each: table}) for each in (name, "table")
    )
    torch.testing.assert_close(found, expected)


def test_tokens_that_nobody_attends_send_nothing_to_their_factors() -> None:
    """Keys and values of NaN, beside a query that attends nothing."""
    pattern = maskdsl.parse("""
    pattern p(n) {
        space tokens[n]
        input fade: float[tokens]
        attend causal and k < 5 and q != 3
        score dot(q * q.fade, k * k.fade)
        value v * k.fade
    }
    """)["p"]
    attention = pattern.bind(n=8).compile()
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, 8, 4, generator=random) for _ in range(3))
    q[:, :, 3], k[:, :, 5:], v[:, :, 6:] = torch.nan, torch.nan, torch.inf
    leaves = [x.requires_grad_() for x in (q, k, v, torch.randn(8, generator=random))]
    out = attention(*leaves[:3], fade=leaves[3])
    assert out.isfinite().all()
    for grad in torch.autograd.grad(out.square().sum(), leaves):
        assert grad.isfinite().all()


@pytest.mark.parametrize("lines", ["score dot(q, abs(k))", "score s value v * k.fade + row[(q + k) % 3]"])
@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_functions_of_pooled_keys_in_parts(lines: str, backend: str) -> None:
    """In calls with some of the queries as in the whole: functions of pools, which are no pools of functions."""
    text = f"""pattern p() {{
        space image[4]
        space text[5]
        space coarse = mean(text by c, 3)
        coord text.c = text % 3
        queries image ++ text
        keys image ++ text ++ coarse
        input fade: float[keys]
        input row: float[3, dim]
        attend all -> all
        {lines}
    }}"""
    mask, random = maskdsl.parse(text)["p"].bind(), torch.Generator().manual_seed(0)
    attention = mask.compile(backend)
    q, k, v = (torch.randn(2, 1, 9, 4, dtype=torch.float64, generator=random).requires_grad_() for _ in range(3))
    shapes = {"fade": (12,), "row": (3, 4)}
    inputs = {each.name: torch.randn(shapes[each.name], dtype=torch.float64, generator=random) for each in mask.inputs}
    whole = attention(q, k, v, **inputs)[:, :, 2:4]
    part = attention(q[:, :, 2:4], k, v, query_start=2, **inputs)
    torch.testing.assert_close(part, whole)
    toward = torch.randn(whole.shape, dtype=torch.float64, generator=random)
    torch.testing.assert_close(*(torch.autograd.grad(x, (q, k, v), toward) for x in (part, whole)))
    with torch.no_grad():
        pages = [x.view(2, 1, 3, 3, 4).transpose(1, 2).flatten(0, 1) for x in (k, v)]
        table = torch.arange(6).view(2, 3)
        paged = attention(q[:, :, 2:4], *pages, query_start=2, page_table=table, page_size=3, **inputs)
        torch.testing.assert_close(paged, whole)


@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_weights_that_cancel_have_gradients(backend: str) -> None:
    """Two equal keys of weights -0.5 and 0.5: what `value` adds is zero, and its derivatives are not."""
    text = """pattern p() { space t[2] input own: float[tokens, dim] attend all -> all
    weight float(k % 2) - 0.5 value v + q.own }"""
    attention, random = maskdsl.parse(text)["p"].bind().compile(backend), torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, 2, 4, dtype=torch.float64, generator=random) for _ in range(3))
    k[:, :, 1] = k[:, :, 0]
    leaves = [x.requires_grad_() for x in (q, k, v, torch.randn(2, 4, dtype=torch.float64, generator=random))]
    q, k, v, own = leaves
    p = (q @ k.mT / 2).softmax(-1) * torch.tensor([-0.5, 0.5])
    expected = p @ v + p.sum(-1, keepdim=True) * own
    out = attention(q, k, v, own=own)
    torch.testing.assert_close(out, expected)
    toward = torch.randn(out.shape, dtype=torch.float64, generator=random)
    torch.testing.assert_close(*(torch.autograd.grad(x, leaves, toward) for x in (out, expected)))


@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_partial_calls_where_only_a_table_of_values_has_gradients(backend: str) -> None:
    """Each of the four queries of the call adds its row once, as its probabilities sum to one."""
    text = "pattern p() { space t[6] input moves: float[5, dim] attend causal value v + moves[q % 5] }"
    attention = maskdsl.parse(text)["p"].bind().compile(backend)
    q, k, v = (torch.randn(1, 1, 6, 4, dtype=torch.float64) for _ in range(3))
    moves = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    attention(q[:, :, 2:], k, v, query_start=2, moves=moves).sum().backward()
    rows = torch.tensor([2, 3, 4, 5]) % 5
    expected = torch.bincount(rows, minlength=5).double()[:, None].expand(5, 4)
    torch.testing.assert_close(moves.grad, expected)


@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_factors_of_values_where_some_queries_have_no_keys(backend: str) -> None:
    """NaN that arrives at queries without keys changes no gradient of a factor of the others."""
    text = """
    pattern p() {
        space a[4]
        space b[2]
        queries a ++ b
        keys a
        input w: float[3]
        input own: float[batch, heads, queries, dim]
        attend a -> a
        weight w[0]
        value v + q.own
    }
    """
    attention = maskdsl.parse(text)["p"].bind().compile(backend)
    q, own, grad = (torch.randn(1, 1, 6, 4, dtype=torch.float64) for _ in range(3))
    k, v = (torch.randn(1, 1, 4, 4, dtype=torch.float64) for _ in range(2))
    w = torch.tensor([0.5, 1, 2], dtype=torch.float64, requires_grad=True)
    p = (q[:, :, :4] @ k.mT / 2).softmax(-1)
    expected = ((p @ v + own[:, :, :4]) * grad[:, :, :4]).sum()
    grad[:, :, 4:] = torch.nan
    attention(q, k, v, w=w, own=own).backward(grad)
    torch.testing.assert_close(w.grad, torch.stack([expected, torch.zeros(()), torch.zeros(())]).double())

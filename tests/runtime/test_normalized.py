"""Sinks, factors and normalizations on the CPU's backends, held against published code in float64."""

import re

import pytest
import torch

import maskdsl
from maskdsl.cli.stages import STAGES
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.reference_backend import Reference
from maskdsl.runtime.backends.tiled_backend import Tiled
from tests.support.finishing import check_large_sums, check_large_sums_by_key, check_rounded_once
from tests.support.normalized import CASES, assert_no_gradient_of_nothing, check


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_published(name: str, backend: str) -> None:
    check(CASES[name], backend)


@pytest.mark.parametrize("normalize", ["none", "softmax by k"])
def test_there_is_no_log_sum_exp(normalize: str) -> None:
    attention = of(normalize).compile()
    with pytest.raises(maskdsl.AttnError, match=f"(?s)E497.*normalize {normalize}"):
        attention(x, x, x, return_lse=True)
    packed = x[0].transpose(0, 1)
    with pytest.raises(maskdsl.AttnError, match="E497"):
        attention.varlen(packed, packed, packed, torch.tensor([0, 9]), return_lse=True)
    assert not attention.has_lse
    assert of("softmax by q").compile().has_lse


WHERE = {
    "query_start": lambda attention: attention(x[:, :, 8:], x, x, query_start=8),
    "key_lengths": lambda attention: attention(x, x, x, key_lengths=torch.tensor([4])),
    "more keys": lambda attention: attention.varlen(
        *(x[0].transpose(0, 1)[each] for each in (slice(3), slice(9), slice(9))),
        torch.tensor([0, 3]),
        torch.tensor([0, 9]),
    ),
}


@pytest.mark.parametrize("part", WHERE)
def test_a_softmax_over_queries_needs_all_of_them(part: str) -> None:
    for attention in (of("softmax by k").compile(), of("softmax by k", bind=False).compile(follow="n")):
        with pytest.raises(maskdsl.AttnError, match=re.escape("E498")):
            WHERE[part](attention)


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("follow", [(), ("a", "b")])
def test_packed_cross_attention_has_all_queries(follow: tuple[str, ...], backend: str) -> None:
    """Its sequences begin with the first queries and keys, whatever their numbers."""
    text = """pattern p(a = 7, b = 9) { space x[a] space y[b] queries x keys y
    attend q.x % 3 != k.y % 2 score s * 0.5 normalize softmax by k }"""
    pattern, random = maskdsl.parse(text)["p"], torch.Generator().manual_seed(0)
    attention = pattern.compile(backend, follow=follow) if follow else pattern.bind().compile(backend)
    lengths = (10, 13, 13)
    q, k, v = (torch.randn(n, 1, 4, dtype=torch.float64, generator=random).requires_grad_() for n in lengths)
    out = attention.varlen(q, k, v, torch.tensor([0, 7, 10]), torch.tensor([0, 9, 13]))
    expected = []
    for queries, keys in ((slice(0, 7), slice(0, 9)), (slice(7, 10), slice(9, 13))):
        s = q[queries, 0] @ k[keys, 0].T / 4
        attends = torch.arange(len(s))[:, None] % 3 != torch.arange(s.shape[1]) % 2
        expected.append(s.masked_fill(~attends, -torch.inf).softmax(0).nan_to_num() @ v[keys, 0])
    torch.testing.assert_close(out[:, 0], torch.cat(expected))
    toward = torch.randn(out.shape, dtype=torch.float64, generator=random)
    grads = [torch.autograd.grad(x, (q, k, v), toward) for x in (out, torch.cat(expected)[:, None])]
    torch.testing.assert_close(*grads)


def test_stages_of_a_softmax_over_queries() -> None:
    """Its kernels are those of the transposed mask, which their text says; there is none for decoding."""
    mask, texts = of("softmax by k"), {each.name: each.text for each in STAGES}
    pairs = "q_i <= k_i", "k_i <= q_i"
    limits = "low = tl.maximum(query_positions[:, None], 0)", "high = tl.maximum(tl.minimum(query_positions[:, None]"
    for stage, (transposed, plain) in {"reference": pairs, "tiled": pairs, "triton": limits}.items():
        text = texts[stage](mask, {})
        assert text.startswith("# `normalize softmax by k`") and transposed in text
        other = texts[stage](of("softmax by q"), {})
        assert plain in other and transposed not in other.partition("def query_gradient_kernel")[0]
    with pytest.raises(maskdsl.AttnError, match="E498"):
        texts["decode"](mask, {})


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("lines", ["score s + k.w normalize softmax by k", "score s * k.w normalize none", "sink q.w"])
def test_numbers_that_are_not_finite_stay_among_what_attends(lines: str, value: float) -> None:
    text = f"pattern p(n = 8) {{ space t[n] input w: float[t] attend q // 4 == k // 4 {lines} }}"
    attention = maskdsl.parse(text)["p"].bind().compile("tiled")
    for position in range(4):  # q, k, v, w
        random = torch.Generator().manual_seed(0)
        leaves = [torch.randn(1, 1, 8, 4, generator=random) for _ in range(3)] + [torch.rand(8, generator=random)]
        leaves[position][(..., 1, slice(None)) if position < 3 else 1] = value
        leaves = [x.requires_grad_() for x in leaves]
        out = attention(*leaves[:3], w=leaves[3])
        grads = torch.autograd.grad(out.sum(), leaves)
        assert all(x[..., 4:, :].isfinite().all() for x in (out, *grads[:3])), (lines, position)
        assert grads[3][4:].isfinite().all()


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("normalize", ["none", "softmax by k"])
def test_queries_without_keys_send_no_gradient(normalize: str, backend: str) -> None:
    assert_no_gradient_of_nothing(normalize, backend)


x = torch.randn(1, 1, 9, 4, generator=torch.Generator().manual_seed(0))


def of(normalize: str, bind: bool = True):
    pattern = maskdsl.parse(f"pattern p(n = 9) {{ space t[n] attend causal normalize {normalize} }}")["p"]
    return pattern.bind() if bind else pattern


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_outputs_are_rounded_once(backend: str, dtype: torch.dtype) -> None:
    check_rounded_once(backend, dtype)


@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_sinks_beside_large_scores(backend: str) -> None:
    check_large_sums(backend)


@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_large_scores_of_softmaxes_over_queries(backend: str) -> None:
    check_large_sums_by_key(backend)


@pytest.mark.parametrize("backend", [Tiled, Reference])
def test_forward_passes_compute_no_gradients(backend: type[Backend], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a softmax over queries neither, whose gradients are those of another attention."""

    def refuse(*arguments: object) -> None:
        raise AssertionError("a backward pass")

    monkeypatch.setattr(backend, "backward", refuse)
    attention = of("softmax by k").compile(backend.name)
    s = (x @ x.mT / 2).masked_fill(~torch.ones(9, 9, dtype=torch.bool).tril(), -torch.inf)
    torch.testing.assert_close(attention(x, x, x), s.softmax(dim=-2) @ x)


@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_factors_of_zero_have_gradients(backend: str) -> None:
    """As of gates that begin at zero: the output before them is not to be had from what follows them."""
    pattern = maskdsl.parse("pattern p(n = 9) { space t[n] input gate: float[t] attend causal weight q.gate }")["p"]
    gate = torch.arange(9).remainder(3).double().requires_grad_()
    leaves = [x.double().requires_grad_(), gate]
    s = (leaves[0] @ leaves[0].mT / 2).masked_fill(~torch.ones(9, 9, dtype=torch.bool).tril(), -torch.inf)
    expected = (s.softmax(dim=-1) @ leaves[0] * gate[:, None]).sin().sum()
    out = pattern.bind().compile(backend)(*leaves[:1] * 3, gate=gate)
    for one, other in zip(*(torch.autograd.grad(each, leaves) for each in (out.sin().sum(), expected)), strict=True):
        torch.testing.assert_close(one, other)

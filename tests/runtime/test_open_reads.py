"""Tables whose indices inputs decide: errors of a call where the host sees them, and NaN where nobody does."""

from typing import Any

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.analysis.indices import given_reads
from maskdsl.analysis.tiles.mask_tiles import tiles as find_tiles
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.decode.regrouped import two_passes
from maskdsl.runtime.kernels import open_reads as reads
from maskdsl.runtime.kernels.open_reads import OpenReads
from tests.support.open_reads import MODULE, WIDTH, N, documents, leaves, plain, vectors

BACKENDS = usable_backends()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_does_not_attend_is_not_read(backend: str) -> None:
    """Documents are short enough: no error, no NaN, and no gradient from pairs that are outside of the table."""
    attention = MODULE["documents"].bind(heads=2).compile(backend)
    q, k, v, bias, gain = given = leaves()
    expected = plain(*given, documents(WIDTH))
    found = attention(q, k, v, document=documents(WIDTH), bias=bias, gain=gain, debug=True)
    torch.testing.assert_close(found, expected)
    slopes = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, given, slopes), torch.autograd.grad(expected, given, slopes), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("backend", BACKENDS)
def test_where_nobody_sees_it_a_read_outside_is_nan(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OpenReads, "check", lambda *_, **__: None)
    attention = MODULE["documents"].bind(heads=2).compile(backend)
    q, k, v, bias, gain = (x.detach() for x in leaves())
    found = attention(q, k, v, document=documents(8), bias=bias, gain=gain)
    expected = plain(q, k, v, bias, gain, documents(8))
    assert expected.isnan().any(dim=-1)[0, 0].nonzero().flatten().tolist()[:4] == [6, 7, 14, 15]
    torch.testing.assert_close(found, expected, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tiles_and_kernels_agree_on_what_is_nan(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No comparison with it holds, so that nobody but the token itself attends there."""
    monkeypatch.setattr(OpenReads, "check", lambda *_, **__: None)
    q, k, v = vectors(N)
    g, w = torch.arange(N) % 7 - 1, torch.tensor([1.0, 20.0, 2.0, 30.0])
    attends = torch.isin(g, torch.tensor([0, 2])) | torch.eye(N, dtype=torch.bool)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attends)
    mask = MODULE["by_float"].bind(heads=2)
    torch.testing.assert_close(mask.compile(backend)(q, k, v, g=g, w=w), expected)
    arrays = {"g": g.numpy(), "w": w.numpy()}
    for block in ((1, 1), (8, 3)):
        tiles = find_tiles(mask.ir, block, arrays).classes()
        assert (tiles > 0).sum() >= attends.sum() / (block[0] * block[1])
    assert ((find_tiles(mask.ir, (1, 1), arrays).classes() == 2) == attends.numpy()).all()


def call(name: str, **given: Any) -> Tensor:
    q, k, v = vectors(8)
    found: Tensor = MODULE[name].bind(heads=2).compile()(q, k, v, **given)
    return found


@pytest.mark.parametrize(
    ("name", "g", "others", "says"),
    [
        ("gates", [0, 1, 2, 3, -1, 0, 0, 0], {"w": torch.zeros(4)}, "index -1.*0 to 3.*and key 4.*`g` holds -1 to 3"),
        ("gates", [0, 1, 2, 3, 3, 0, 7, 0], {"w": torch.zeros(4)}, "index 7.*0 to 3.*and key 6.*`g` holds 0 to 7"),
        ("by_table", [[0, 1, 2, 3, 4, 0, 0, 0]], {"w": torch.ones(4) > 0}, "index 4.*and key 4"),
        ("labels", [0, 1, 2, 3, 4, 0, 0, 0], {"names": torch.arange(4)}, "index 4.*for token 4"),
    ],
)
def test_values_that_lead_outside(name: str, g: list[Any], others: dict[str, Tensor], says: str) -> None:
    q, k, v = vectors(8)
    attention = MODULE[name].bind(heads=2).compile()
    given = {"g": torch.tensor(g), **others}
    for debug in (False, True):
        with pytest.raises(AttnError, match="(?s)E483.*" + says):
            attention(q, k, v, **given, debug=debug)
    assert attention(q, k, v, **{**given, "g": given["g"].clamp(0, 3)}).isfinite().all()


def test_values_of_tokens_that_nobody_attends_may_be_any() -> None:
    """The pattern leaves tokens of the number 9 out."""
    g = torch.tensor([0, 1, 9, 3, 9, 0, 0, 0])
    assert call("gates", g=g, w=torch.randn(4)).isfinite().all()


def test_calls_without_batch_entries_read_nothing() -> None:
    """The indices of a table come from an input with no batch entries."""
    text = "input a: int[batch, tokens] input b: float[8, 8] attend q.a == k.a score s + b[q.a, k.a]"
    attention = maskdsl.parse(f"pattern p() {{ space tokens[6] {text} }}")["p"].bind().compile("tiled")
    q = torch.zeros(0, 1, 6, 4)
    out = attention(q, q, q, a=torch.zeros(0, 6, dtype=torch.int64), b=torch.zeros(8, 8))
    assert out.shape == q.shape


def test_tensors_that_passed_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    known = given_reads.known_inside
    monkeypatch.setattr(given_reads, "known_inside", lambda *all: looked.append("") or known(*all))
    attention = MODULE["gates"].bind(n=9, heads=2).compile()
    q, k, v = vectors(9)
    g, w = torch.zeros(9, dtype=torch.int32), torch.zeros(4)
    for _ in range(3):
        attention(q, k, v, g=g, w=w)
    assert len(looked) == 1
    g[3] = 2
    attention(q, k, v, g=g, w=w)
    assert len(looked) == 2
    g[3] = 4
    for _ in range(2):
        with pytest.raises(AttnError, match="E483"):
            attention(q, k, v, g=g, w=w)


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_with_some_of_the_queries(backend: str, recorded: bool) -> None:
    """What tokens that are not in a call hold may be anything."""
    attention = MODULE["gates"].bind(n=8, heads=2).compile(backend)
    q, k, v = (torch.cat([x, x]).requires_grad_(recorded) for x in vectors(8))
    g, w = torch.tensor([0, 1, 3, 2, 0, 4, 0, 0]), torch.zeros(4)
    with pytest.raises(AttnError, match=r"(?s)E483.*index 4.*and key 5"):
        attention(q[:, :, 3:6], k, v, query_start=3, g=g, w=w)
    assert attention(q[:, :, 2:5], k, v, query_start=2, g=g, w=w).isfinite().all()
    lengths = torch.tensor([5, 4])
    given = {"g": g, "w": w, "query_start": lengths}
    assert attention(q[:, :, 3:6], k, v, key_lengths=lengths, **given).isfinite().all()
    with pytest.raises(AttnError, match="E483"):
        attention(q[:, :, 3:6], k, v, key_lengths=lengths + 1, **{**given, "query_start": torch.tensor([5, 2])})
    pages = [x.unflatten(2, (4, 2)).transpose(1, 2).flatten(0, 1) for x in (k, v)]
    table = torch.arange(8).view(2, 4)
    with pytest.raises(AttnError, match="E483"):
        attention(q[:, :, 3:6], *pages, page_table=table, query_start=3, g=g, w=w)


@pytest.mark.parametrize("backend", BACKENDS)
def test_packed_sequences(backend: str) -> None:
    attention = MODULE["gates"].bind(n=8, heads=2).compile(backend)
    q, k, v = (x[0].transpose(0, 1).repeat(2, 1, 1) for x in vectors(8))
    g, w = torch.tensor([0, 1, 3, 2, 0, 4, 0, 0]), torch.zeros(4)
    assert attention.varlen(q[:9], k[:9], v[:9], torch.tensor([0, 5, 9]), g=g, w=w).isfinite().all()
    with pytest.raises(AttnError, match=r"(?s)E483.*index 4.*and key 5"):
        attention.varlen(q[:9], k[:9], v[:9], torch.tensor([0, 3, 9]), g=g, w=w)


def test_routes_in_two_passes() -> None:
    text = """pattern p(n = 40) {
        space tokens[n]
        input g: int[tokens]
        input w: float[4]
        coord chunk = i // 8
        route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
        attend past
        attend causal and same(chunk)
        score s + w[k.g]
    }"""
    attention = maskdsl.parse(text)["p"].bind(heads=2).compile("tiled")
    assert two_passes(attention._compiled) is not None
    g = torch.arange(40) % 4
    assert attention(*vectors(40), g=g, w=torch.zeros(4)).isfinite().all()
    for call in ({}, {"query_start": 0}):
        with pytest.raises(AttnError, match="E483"):
            attention(*vectors(40), g=g + 1, w=torch.zeros(4), **call)


def test_debugging_looks_however_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reads, "BUDGET", 0)
    attention = MODULE["documents"].bind(n=39, heads=2).compile()
    q, k, v = vectors(39)
    given = {"document": documents(8)[:39], "bias": torch.zeros(2, WIDTH), "gain": torch.ones(WIDTH)}
    assert attention(q, k, v, **given).isnan().any()
    with pytest.raises(AttnError, match="E483"):
        attention(q, k, v, **given, debug=True)


def test_reads_that_are_proved_cost_nothing() -> None:
    text = """pattern p(n = 64, w = 9) {
        space tokens[n]
        input document: int[tokens]
        input bias: float[w]
        attend backward(w) and causal and same(document)
        score s + bias[q - k]
    }"""
    attention = maskdsl.parse(text)["p"].bind().compile()
    assert "read_open" not in attention.source
    assert "read_open" in MODULE["documents"].bind(heads=2).compile().source

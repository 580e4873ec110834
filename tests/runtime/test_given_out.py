"""`out`, into which calls of every kind write their output."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.available import usable_backends

TEXT = """
pattern p(n = 40) { space t[n]  attend causal and backward(9) }
pattern sum(n = 40) { space t[n]  branch a { attend causal }  branch b { attend k == 0 } }
"""
MODULE = maskdsl.parse(TEXT)
BACKENDS = usable_backends()
CALLS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "whole": ((2, 4, 40, 8), {}),
    "decoding": ((2, 4, 1, 8), {"query_start": 20}),
    "a chunk": ((2, 4, 7, 8), {"query_start": torch.tensor([3, 20])}),
    "pages": ((2, 4, 1, 8), {"query_start": 20, "page_table": torch.arange(10).view(2, 5)}),
}


def tensors(shape: tuple[int, ...], paged: bool) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), *torch.randn(2, 10 if paged else 2, 2, 8 if paged else 40, 8)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["p", "sum"])
def test_calls_write_into_it(name: str, call: str, backend: str) -> None:
    """Also into a view, around which nothing changes; the log-sum-exp comes as before."""
    shape, options = CALLS[call]
    attention = MODULE[name].bind(heads=4).compile(backend)
    q, k, v = tensors(shape, call == "pages")
    expected, expected_lse = attention(q, k, v, return_lse=True, **options)
    around = torch.full((shape[0], shape[2], 5, 10), 3.0)
    out = around.transpose(1, 2)[:, 1:, :, 1:9]
    result, lse = attention(q, k, v, out=out, return_lse=True, **options)
    assert result is out and torch.equal(out, expected) and torch.equal(lse, expected_lse)
    assert (around[:, :, 0] == 3).all() and (around[..., 0] == 3).all() and (around[..., 9] == 3).all()
    assert attention(q, k, v, out=out.zero_(), **options) is out and torch.equal(out, expected)


@pytest.mark.skipif("native" not in BACKENDS, reason="there is no C compiler")
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("layout", ["bhnd", "bnhd"])
def test_kernels_write_there_themselves(call: str, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is copied, whatever the strides of tokens and heads are; torch knows that it is another value."""
    shape, options = CALLS[call]
    attention = MODULE["p"].bind(heads=4).compile("native", layout=layout)
    moved = [x.transpose(1, 2) if layout == "bnhd" else x for x in tensors(shape, call == "pages")]
    expected = attention(*moved, **options)
    out = torch.empty(*expected.shape[:3], 10)[..., 1:9]
    version = out._version
    monkeypatch.setattr(Tensor, "copy_", None)
    assert attention(*moved, out=out, **options) is out and torch.equal(out, expected)
    assert out._version > version


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("paged", [False, True])
def test_packed_queries_write_into_it(backend: str, paged: bool) -> None:
    attention, ends = MODULE["p"].bind(heads=4).compile(backend), torch.tensor([0, 3, 4, 9])
    q, (k, v) = torch.randn(9, 4, 8), torch.randn(2, 10, 2, 8, 8) if paged else torch.randn(2, 9, 2, 8)
    options = {"page_table": torch.arange(9).view(3, 3), "key_lengths": [24, 1, 9]} if paged else {}
    expected, out = attention.varlen(q, k, v, ends, **options), torch.empty(9, 4, 8)
    assert attention.varlen(q, k, v, ends, out=out, **options) is out and torch.equal(out, expected)


def test_tokens_before_heads() -> None:
    attention = MODULE["p"].bind(heads=4).compile(layout="bnhd")
    q, k, v, out = torch.randn(4, 2, 40, 4, 8)
    assert attention(q, k, v, out=out) is out and torch.equal(out, attention(q, k, v))


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles(dynamic: bool) -> None:
    attention, (q, k, v, out) = MODULE["p"].bind(heads=4).compile(), torch.randn(4, 2, 4, 40, 8)
    compiled = torch.compile(attention, fullgraph=True, dynamic=dynamic, backend="eager")
    assert compiled(q, k, v, out=out) is out
    torch.testing.assert_close(out, attention(q, k, v))


@pytest.mark.parametrize("mode", [FakeTensorMode, lambda: torch.device("meta")])
def test_shapes_alone(mode: Any) -> None:
    """Whose addresses are none, or all the same."""
    attention = MODULE["p"].bind(heads=4).compile()
    with mode(), torch.no_grad():
        q, k, v, out = (torch.empty(2, 4, 40, 8) for _ in range(4))
        assert attention(q, k, v, out=out) is out
        rows, packed = torch.empty(40, 4, 8), torch.empty(40, 4, 8)
        assert attention.varlen(rows, rows, rows, torch.tensor([0, 40]), out=packed) is packed


@pytest.mark.parametrize(
    ("out", "says"),
    [
        (3, "E415|E46"),
        (torch.empty(2, 4, 39, 8), r"E487.*shape of `out` is \(2, 4, 39, 8\).*\(2, 4, 40, 8\)"),
        (torch.empty(2, 4, 40, 8).double(), "E487.*type of `out` is float64.*float32"),
        (torch.empty(2, 4, 40, 8, device="meta"), "E487.*device of `out` is meta.*cpu"),
        (torch.empty(1, 4, 40, 8).expand(2, -1, -1, -1), "E487.*strides"),
        (torch.empty(2, 4, 40, 8).requires_grad_(), "E486.*`out` requires one"),
    ],
)
def test_mistakes(out: Any, says: str) -> None:
    q, k, v = torch.randn(3, 2, 4, 40, 8)
    with pytest.raises(AttnError) as caught:
        MODULE["p"].bind(heads=4).compile()(q, k, v, out=out)
    assert re.search(says, str(caught.value), re.DOTALL), caught.value


def test_memory_of_arguments() -> None:
    """Beside them in one buffer is no mistake, between their elements is."""
    attention, (q, k, v) = MODULE["p"].bind(heads=4).compile(), torch.randn(3, 2, 4, 40, 8)
    for out, name in ((q, "q"), (k, "k"), (v.transpose(0, 1).transpose(0, 1), "v")):
        with pytest.raises(AttnError, match=f"E488.*`{name}`"):
            attention(q, k, v, out=out)
    fused = torch.randn(2, 5, 40, 8)
    with pytest.raises(AttnError, match=r"E488.*`q`"):
        attention(fused[:, :4], k, v, out=fused[:, 1:])
    both = torch.randn(2, 2, 4, 40, 8)
    assert torch.equal(attention(both[0], k, v, out=both[1]), attention(both[0], k, v))


def test_no_gradients() -> None:
    attention, (q, k, v, out) = MODULE["p"].bind(heads=4).compile(), torch.randn(4, 2, 4, 40, 8)
    with pytest.raises(AttnError, match=re.compile("E486.*`v` requires one.*no_grad", re.DOTALL)):
        attention(q, k, v.requires_grad_(), out=out)
    with torch.no_grad():
        attention(q, k, v, out=out)

"""Products of vectors in scores: every backend against the code of papers, in whole calls and in others."""

import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.available import usable_backends
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
@pytest.mark.parametrize("name", ["transformer_xl", "shaw"])
def test_chunks_and_pages_are_rows_of_the_whole(name: str, backend: str) -> None:
    check_chunks(name, backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["transformer_xl", "deberta"])
def test_packed_sequences_are_each_alone(name: str, backend: str) -> None:
    check_packed(name, backend)


def test_windows_have_the_entries_that_pairs_read() -> None:
    """Of the vectors of 37 distances, those of the 9 that attend; a table that inputs index is left whole."""
    (product,) = bound("transformer_xl").ir.products
    assert [window.count for window in product.windows] == [37]  # few enough to be left as they are
    text = CASES["transformer_xl"].text
    (product,) = maskdsl.parse(text)["transformer_xl"].bind(n=4096, size=512, heads=2).ir.products
    assert [(window.first, window.count) for window in product.windows] == [(0, 512)]


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

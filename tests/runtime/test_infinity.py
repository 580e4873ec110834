"""`inf` in relations, scores, scales and thresholds, on every backend."""

import pytest
import torch

import maskdsl

N = 17


def attention(body: str, backend: str) -> maskdsl.Attention:
    text = f"pattern p(n = {N}, most: float = inf) {{ space t[n] {body} }}"
    return maskdsl.parse(text)["p"].bind(heads=2).compile(backend)


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize(
    "body",
    [
        "attend t -> t  score s if q >= k else -inf",
        "attend float(k - q) < inf and causal",
        "attend causal  score min(s, most)",
        "attend t -> t  score s + (0.0 if q >= k else -most)",
        "route r = above(-inf, dot(q, k)) where k <= q  attend r",
        "attend t -> t where max(float(k - q), -inf) <= 0.0",
    ],
)
def test_infinity(body: str, backend: str) -> None:
    """Each is causal attention."""
    q, k, v = torch.randn(3, 1, 2, N, 8, dtype=torch.float64).requires_grad_().unbind()
    causal = torch.ones(N, N, dtype=torch.bool).tril()
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=causal)
    found = attention(body, backend)(q, k, v)
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(x.square().sum(), (q, k, v)) for x in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_what_has_the_name_comes_first() -> None:
    bound = maskdsl.parse("pattern p(n = 8, inf = 3) { space t[n] attend q - k == inf }")["p"].bind()
    assert bound.dense().sum() == 5


def test_infinities_without_a_number_are_errors() -> None:
    with pytest.raises(maskdsl.AttnError, match="E253"):
        attention("attend causal  score s + (inf - inf)", "tiled")

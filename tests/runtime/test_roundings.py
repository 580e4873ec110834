"""`floor`, `round` and `int` on every backend, against Python's, in relations and in scores of either type."""

import math

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.available import usable_backends

TOKENS = 12
PYTHON = {"floor": math.floor, "round": round, "int": int}
LEVELS = [0.7, 0.3, -0.7, 2.5, 3.5, -2.5, -0.1, 1e30, -1e30, math.inf, -math.inf, math.nan]
"""As float32, 0.7 is below 0.7, and ten times it is 7 in float32."""


def python(name: str, x: float) -> int:
    """What Python gives, within 64 bits; 0 for NaN, which it refuses."""
    if math.isnan(x):
        return 0
    return max(-(2**63), min(2**63 - 1, PYTHON[name](min(max(x, -1e300), 1e300))))


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PYTHON)
def test_what_inputs_give(name: str, dtype: torch.dtype, backend: str) -> None:
    """In the relation and in the score: of the input's own number, times ten in 64 bits."""
    text = f"""pattern p() {{
        space tokens[{TOKENS}]
        input level: float[tokens]
        attend q == k and {name}(k.level * 10.0) % 7 == {name}(q.level * 10.0) % 7
        score float(clamp({name}(k.level * 10.0), -100, 100))
    }}"""
    level = torch.tensor(LEVELS, dtype=dtype)
    zeros = torch.zeros(1, 1, TOKENS, 8, dtype=dtype)
    attention = maskdsl.parse(text)["p"].bind().compile(backend)
    _, lse = attention(zeros, zeros, zeros, level=level, return_lse=True)
    expected = [max(-100, min(100, python(name, float(each) * 10.0))) for each in level.tolist()]
    assert lse[0, 0].tolist() == expected


@pytest.mark.parametrize("backend", usable_backends())
def test_distances_that_divide_exactly_stand_in_their_bucket(backend: str) -> None:
    """`float(q - k) / 3.0` is exact where it is whole, in float32 scores too: tables are read by it."""
    text = """pattern p() {
        space tokens[64]
        input table: float[22]
        attend k == 0
        score table[floor(float(q - k) / 3.0)] + float(round(float(q) / 2.0))
    }"""
    table = torch.arange(22, dtype=torch.float32) * 100
    zeros = torch.zeros(1, 1, 64, 8)
    _, lse = maskdsl.parse(text)["p"].bind().compile(backend)(zeros, zeros, zeros, table=table, return_lse=True)
    assert lse[0, 0].tolist() == [100.0 * (i // 3) + round(i / 2) for i in range(64)]


@pytest.mark.parametrize("backend", usable_backends())
def test_rounding_has_gradient_zero(backend: str) -> None:
    text = """pattern p() {
        space tokens[9]
        input level: float[tokens]
        input only: float[tokens]
        attend causal
        score s + float(clamp(round(s + k.only * 2.0), -3, 3)) + k.level
    }"""
    random = np.random.default_rng(0)
    q, k, v = (torch.tensor(random.normal(size=(1, 1, 9, 8)), requires_grad=True) for _ in range(3))
    level, only = (torch.tensor(random.normal(size=9), requires_grad=True) for _ in range(2))
    maskdsl.parse(text)["p"].bind().compile(backend)(q, k, v, level=level, only=only).square().sum().backward()
    found = [each.grad for each in (q, k, v, level)]

    def formula() -> torch.Tensor:
        s = (q @ k.mT / math.sqrt(8))[0, 0]
        step = (s + only * 2.0).round().clamp(-3, 3).detach()
        s = (s + step + level).masked_fill(torch.ones(9, 9).triu(1).bool(), -torch.inf)
        return s.softmax(-1) @ v[0, 0]

    expected = torch.autograd.grad(formula().square().sum(), (q, k, v, level))
    torch.testing.assert_close(found, list(expected), rtol=1e-9, atol=1e-9)
    assert only.grad is None or not only.grad.any()

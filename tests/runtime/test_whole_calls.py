"""Calls that torch's kernel computes whole: the results of tiles, also where those alone are exact or not finite."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.api import Mask
from maskdsl.emit.plan import make_plan
from maskdsl.runtime.backends import tiled_backend, whole_calls

TEXTS = {"causal": "attend causal", "all": "attend all -> all"}


def bound(text: str, n: int = 70, heads: int = 4) -> Mask:
    return maskdsl.parse(f"pattern p(n) {{ space t[n] {text} }}")["p"].bind(n=n, heads=heads)


def tensors(n: int = 70, key_heads: int = 4, dim: int = 16, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(n)
    return [torch.randn(2, heads, n, dim, dtype=dtype) for heads in (4, key_heads, key_heads)]


def results(mask: Mask, backend: str, given: list[Tensor], of_lse: bool = False) -> list[Tensor]:
    """The output, the log-sum-exp and the gradients; of the log-sum-exp too, if it is asked."""
    leaves = [x.clone().requires_grad_() for x in given]
    out, lse = mask.compile(backend)(*leaves, return_lse=True)
    loss = (out * torch.linspace(0, 1, out.shape[-1])).sum() + (lse.sin().sum() if of_lse else 0)
    return [out, lse, *torch.autograd.grad(loss, leaves)]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether torch's kernel had results, call by call, forward and backward."""
    calls: list[bool] = []
    for name in ("attend_whole", "gradients_of_whole"):
        function = getattr(whole_calls, name)

        def recorded(*given: object, function: Callable[..., object] = function) -> object:
            result = function(*given)
            calls.append(result is not None)
            return result

        monkeypatch.setattr(tiled_backend, name, recorded)
    return calls


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("n", [1, 70, 300])
def test_agrees_with_the_reference(name: str, n: int, computed: list[bool]) -> None:
    mask = bound(TEXTS[name], n)
    found, expected = (results(mask, backend, tensors(n)) for backend in ("tiled", "reference"))
    assert computed == [True, True]
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


def test_keys_that_heads_share(computed: list[bool]) -> None:
    """All keys: by the kernel. Of causal attention tiles take less time."""
    for name, times in (("all", 2), ("causal", 0)):
        computed.clear()
        found, expected = (results(bound(TEXTS[name]), each, tensors(key_heads=2)) for each in ("tiled", "reference"))
        assert len(computed) == times
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


def test_tensors_whose_tokens_come_first(computed: list[bool]) -> None:
    given = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors(key_heads=2)]
    found, expected = (results(bound(TEXTS["all"]), each, given) for each in ("tiled", "reference"))
    assert computed == [True, True]
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("which", range(3))
def test_what_is_not_finite_reaches_those_that_attend_it(name: str, number: float, which: int) -> None:
    """As in tiles, which compute float64: NaN for queries that attend it, and no others."""
    given = tensors()
    given[which][0, 1, 40] = number
    attention = bound(TEXTS[name]).compile("tiled")
    found, expected = attention(*given), attention(*(x.double() for x in given))
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-5, equal_nan=True)
    assert bool(found.isfinite().all(dim=-1)[0, 1, :40].all()) is (name == "causal" or which == 0)


def test_tiles_compute_what_needs_them(computed: list[bool]) -> None:
    """Gradients of the log-sum-exp, and those of scores whose log-sum-exp alone is too coarse."""
    mask, given = bound(TEXTS["causal"]), tensors()
    found, expected = (results(mask, each, given, of_lse=True) for each in ("tiled", "reference"))
    assert computed == [True, False]
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)
    computed.clear()
    large = [given[0] * 1e3, *given[1:]]
    found = results(mask, "tiled", large)
    assert computed == [True, False]
    exact = results(mask, "reference", [x.double() for x in large])
    torch.testing.assert_close([x.double() for x in found[2:]], exact[2:], rtol=1e-3, atol=1e-3)


def test_other_patterns_and_types_are_computed_by_tiles() -> None:
    q, k, v = tensors()
    plan = make_plan(bound(TEXTS["causal"]).ir)
    assert whole_calls.is_whole(plan, q, k, v)
    assert not whole_calls.is_whole(plan, q.double(), k.double(), v.double())
    assert not whole_calls.is_whole(plan, q.bfloat16(), k.bfloat16(), v.bfloat16())
    assert not whole_calls.is_whole(plan, q, k, v[..., :8])
    assert not whole_calls.is_whole(plan, q, k[:, :, :60], v[:, :, :60])
    assert whole_calls.is_whole(make_plan(bound(TEXTS["all"]).ir), q, k[:, :, :60], v[:, :, :60])
    for text in (
        "attend causal where q < 50",
        "attend causal score s * 2",
        "attend causal scale 1.0",
        "attend causal weight 0.5",
        "input logit: float[heads] attend causal sink logit[head]",
        "attend causal normalize softmax by k",
        "attend window(9)",
        "attend q <= k",
    ):
        plan = make_plan(bound(text).ir)
        assert not (plan.is_plain and whole_calls.is_whole(plan, q, k, v)), text

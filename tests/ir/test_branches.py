"""Branches that are not taken: the same values, and gradients of the pairs that count alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from tests.support.drawn import examples

BACKENDS = ("reference", "tiled")
LENGTH = 5


def plain(text: str, s: float, a: float, q: int, k: int):
    """One pair's value and its slopes by `s` and `a`: Python does not evaluate branches that are not taken."""
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (s, a)]
    names = {"s": leaves[0], "a": [leaves[1]], "q": q, "k": k, "float": lambda x: torch.tensor(float(x)).double()}
    names |= {
        name: lambda x, of=name: getattr(torch, of)(torch.as_tensor(x).double()) for name in ("log", "sqrt", "exp")
    }
    names |= {"min": lesser, "max": lambda x, y: -lesser(-x, -y)}
    value = eval(text, {"__builtins__": {}}, names)
    value = value if isinstance(value, torch.Tensor) else torch.tensor(float(value), dtype=torch.float64)
    slopes = [None, None]
    if value.requires_grad:
        slopes = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.item(), *(0.0 if slope is None else slope.item() for slope in slopes)


def lesser(x, y):
    """Equal numbers have half of the gradient each, but beside a constant all of it; NaN comes through."""
    if x < y or (x == y and not isinstance(y, torch.Tensor)):
        return x
    if y < x or (x == y and not isinstance(x, torch.Tensor)):
        return y
    return (x + y) / 2


def expected(text: str, s: torch.Tensor, a: float):
    """[queries, keys] of values, of slopes by the score, and by `a[0]`, for pairs that attend; zeros elsewhere."""
    found = torch.zeros(3, LENGTH, LENGTH, dtype=torch.float64)
    for q in range(LENGTH):
        for k in range(q + 1):
            found[:, q, k] = torch.tensor(plain(text, s[q, k].item(), a, q, k), dtype=torch.float64)
    return found


def softmax_gradients(text: str, tensors, a: float, toward, is_weight: bool):
    """Of q, k, v and a, by the chain rule from slopes of single pairs."""
    q, k, v = tensors
    s = q @ k.t() * q.shape[1] ** -0.5
    values, by_score, by_a = expected(text, s, a)
    attends = torch.ones(LENGTH, LENGTH).tril().bool()
    scores = (s if is_weight else values).masked_fill(~attends, -math.inf).requires_grad_()
    weights = (values if is_weight else torch.ones_like(s)).masked_fill(~attends, 0).requires_grad_()
    leaf = v.clone().requires_grad_()
    out = (scores.softmax(-1) * weights) @ leaf
    to_scores, to_weights, to_v = torch.autograd.grad(out, (scores, weights, leaf), toward)
    to_s, to_a = (to_scores, to_weights * by_a) if is_weight else (to_scores * by_score, to_scores * by_a)
    to_s = to_s * q.shape[1] ** -0.5
    return out.detach(), to_s @ k, to_s.t() @ q, to_v, to_a.sum().view(1)


def check(backend: str, kind: str, text: str, seed: int = 0, a: float = 0.7) -> None:
    attention = maskdsl.parse(PATTERN.format(kind, text))["p"].bind().compile(backend)
    random = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(LENGTH, 4, generator=random, dtype=torch.float64) for _ in range(3)]
    toward = torch.randn(LENGTH, 4, generator=random, dtype=torch.float64)
    out, *grads = softmax_gradients(text, tensors, a, toward, kind == "weight")
    leaves = [
        *(x[None, None].clone().requires_grad_() for x in tensors),
        torch.tensor([a], dtype=torch.float64, requires_grad=True),
    ]
    found = attention(*leaves[:3], a=leaves[3])
    torch.testing.assert_close(found[0, 0], out, rtol=1e-9, atol=1e-9)
    for one, other in zip(torch.autograd.grad(found, leaves, toward[None, None]), grads, strict=True):
        torch.testing.assert_close(one.view_as(other), other, rtol=1e-9, atol=1e-9, msg=lambda m: f"{text}: {m}")


GUARDED = [
    ("score", "(s / float(q - k) if q > k else s)"),
    ("score", "(a[0] * log(float(q - k)) if q > k else 0.0)"),
    ("score", "(sqrt(s) if s > 0.0 else s)"),
    ("weight", "(a[0] / sqrt(float(q - k)) if q > k else 1.0)"),
    ("score", "(log(s) if s > 0.0 else (sqrt(0.0 - s) if s < 0.0 else s))"),
    ("score", "(s if q == k else s / (log(s) if s > 0.0 else exp(s)) / float(q - k))"),
    ("score", "(exp(1000.0 * s) if s < 0.0 else s)"),
    ("score", "min(a[0] / float(q - k), s * 3.0) if q != k else s"),
    ("score", "max(a[0] * log(float(q - k)), 0.0 - 2.0)"),
    ("score", "min(exp(2000.0 * s), 1.0)"),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("kind", "text"), GUARDED)
def test_a_branch_that_is_not_taken_sends_nothing(kind: str, text: str, backend: str) -> None:
    check(backend, kind, f"({text})")


PATTERN = "pattern p(n = 5) {{ space tokens[n] input a: float[1] attend causal {} {} + 0.0 * a[0] }}"
LEAVES = st.sampled_from(["s", "a[0]", "float(q - k)", "float(k)", "1.5", "2.0"])
CONDITIONS = st.sampled_from(["q > k", "q == k", "k > 1", "s > 0.0", "s < 0.3 and q > k", "q == k or s > 0.0"])
UNARY = st.sampled_from(["log({})", "sqrt({})", "exp(9.0 * {})"])
BINARY = st.sampled_from(["({} + {})", "({} * {})", "({} / {})", "min({}, {})", "max({}, {})"])
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(UNARY, inner).map(lambda p: p[0].format(p[1])),
        st.tuples(
            st.sampled_from(["({} + {})", "({} * {})", "({} / {})", "min({}, {})", "max({}, {})"]), inner, inner
        ).map(lambda p: p[0].format(*p[1:])),
        st.tuples(inner, CONDITIONS, inner).map(lambda p: "({} if {} else {})".format(*p)),
    ),
    max_leaves=6,
)


@settings(max_examples=examples(25))
@given(EXPRESSIONS, st.integers(0, 9))
def test_random_branches(text: str, seed: int) -> None:
    """Those of finite values and slopes wherever a pair attends; what else they hold must not be seen."""
    random = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(LENGTH, 4, generator=random, dtype=torch.float64) for _ in range(2))
    try:
        pairs = expected(text, q @ k.t() / 2, 0.7)
    except ZeroDivisionError:
        return
    if pairs.isfinite().all() and pairs.abs().max() < 1e4:
        for backend in BACKENDS:
            check(backend, "score", text, seed)


KINKS = [
    ("abs(a[0])", torch.abs, (0.0,)),
    ("min(a[0], b[0])", torch.minimum, (0.5, 0.5)),
    ("max(a[0], b[0])", torch.maximum, (0.5, 0.5)),
    ("max(a[0], 0.5)", lambda a: a.clamp(min=0.5), (0.5,)),
    ("min(0.5, a[0])", lambda a: a.clamp(max=0.5), (0.5,)),
    ("max(a[0] * b[0], 0.5)", lambda a, b: (a * b).clamp(min=0.5), (0.5, 1.0)),
    ("min(exp(a[0]), exp(b[0]))", lambda a, b: torch.minimum(a.exp(), b.exp()), (0.5, 0.5)),
    ("max(exp(a[0]), b[0] / 2.0)", lambda a, b: torch.maximum(a.exp(), b / 2), (0.0, 2.0)),
    ("a[0] ** 1.5", lambda a: a**1.5, (0.0,)),
    ("(a[0] if a[0] < 0.5 else b[0])", lambda a, b: torch.where(a < 0.5, a, b), (0.5, 0.5)),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("text", "function", "values"), KINKS, ids=[text for text, *_ in KINKS])
def test_kinks_are_those_of_autograd(text, function, values, backend):
    """As factors of all probabilities, which send their slope times the sum of all that comes."""
    inputs = {
        name: torch.tensor([x], dtype=torch.float64, requires_grad=True) for name, x in zip("ab", values, strict=False)
    }
    given = " ".join(f"input {name}: float[1]" for name in inputs)
    attention = maskdsl.parse(f"pattern p(n = 9) {{ space tokens[n] {given} attend causal weight {text} }}")["p"].bind()
    q, k, v, toward = torch.randn(4, 1, 1, 9, 4, dtype=torch.float64).unbind()
    out = attention.compile(backend)(q, k, v, **inputs)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    expected = torch.autograd.grad((plain * function(*inputs.values())), [*inputs.values()], toward)
    torch.testing.assert_close(torch.autograd.grad(out, [*inputs.values()], toward), expected)

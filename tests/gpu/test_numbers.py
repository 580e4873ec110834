"""Numbers at which kernels could go wrong without a word, against a softmax in float64 that is written here."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import maskdsl
from tests.gpu import tensors
from tests.gpu.tensors import DEVICE, REASON, RUNS

pytestmark = pytest.mark.skipif(not RUNS, reason=REASON)

# Kinks

Change = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of scores [queries, keys], the floats `w` of queries [queries, 1] and of keys [keys]."""
PLACE = torch.arange(8.0, device=DEVICE)
KINKS: dict[str, Change] = {
    "score abs(s)": lambda s, q, k: s.abs(),
    "score max(s, k.w)": lambda s, q, k: torch.maximum(s, k),
    "score min(q.w, s)": lambda s, q, k: torch.minimum(q, s),
    "score clamp(s, 0.0, 1.0)": lambda s, q, k: s.clamp(0.0, 1.0),
    "score clamp(s, -0.1, 0.1)  score min(s, 0.1)": lambda s, q, k: s.clamp(-0.1, 0.1).clamp(max=0.1),
    "score max(s, k)": lambda s, q, k: torch.maximum(s, PLACE),
    "score s + min(k - 4, k.w)": lambda s, q, k: s + torch.minimum(PLACE - 4, k),
    "score s + abs(k.w) - max(0.0, q.w)": lambda s, q, k: s + k.abs() - q.clamp(min=0.0),
    "score s ** 2 + k.w ** 3": lambda s, q, k: s**2 + k**3,
    "score tanh(s) ** 65 + tanh(s) ** 66": lambda s, q, k: s.tanh() ** 65 + s.tanh() ** 66,
    "score s if s > 0.0 else 2.0 * s": lambda s, q, k: torch.where(s > 0.0, s, 2.0 * s),
}
WEIGHTS: dict[str, Change] = {
    "weight abs(k.w)": lambda s, q, k: k.abs(),
    "weight max(q.w, k.w) + min(k.w, 0.0)": lambda s, q, k: torch.maximum(q, k) + k.clamp(max=0.0),
}


@pytest.mark.parametrize("backend", ["triton", "tiled", "reference"] if DEVICE.type == "cpu" else ["triton"])
@pytest.mark.parametrize("body", [*KINKS, *WEIGHTS])
def test_gradients_at_kinks_are_those_of_autograd(body: str, backend: str) -> None:
    text = f"pattern kinks(n = 8) {{ space tokens[n]  input w: float[tokens]  attend q >= 0 {body} }}"
    attention = maskdsl.parse(text)["kinks"].bind().compile(backend)
    generator = torch.Generator().manual_seed(3)
    q, k, v, toward = torch.randn(4, 1, 1, 8, 16, generator=generator).to(DEVICE)
    q[..., ::2, :] = 0  # half of all scores are zero
    w = torch.tensor([0.0, 1.0, -2.0, 0.0, 0.5, 1.0, -1.0, 1.5], device=DEVICE)
    leaves = [x.requires_grad_() for x in (q, k, v, w)]
    found = torch.autograd.grad(attention(q, k, v, w=w), leaves, toward)
    s = (q @ k.mT) / 4
    p = torch.softmax(KINKS.get(body, lambda s, q, k: s)(s, w[:, None], w), -1)
    if body in WEIGHTS:
        p = p * WEIGHTS[body](s, w[:, None], w)
    expected = torch.autograd.grad(p @ v, leaves, toward, materialize_grads=True)
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


# Slopes that are infinite

POLES: dict[str, tuple[Change, Change | None]] = {
    "score s + log(k.w)": (lambda s, q, k: s / 4 + k.log(), None),
    "score s - 1.0 / abs(k.w)": (lambda s, q, k: s / 4 - 1 / k, None),
    "score s + log(t[k])  score 2.0 * s": (lambda s, q, k: 2 * (s / 4 + k.log()), None),
    "score -abs(s)  scale 1.0 / k.w": (lambda s, q, k: -(s / k).abs(), None),
    "score s + log(k.w)  weight sqrt(k.w) * t[q]": (lambda s, q, k: s / 4 + k.log(), lambda s, q, k: k.sqrt() * q),
}
"""What scores and weights are, of products of queries and keys."""


@pytest.mark.parametrize("backend", ["triton", "tiled", "reference"] if DEVICE.type == "cpu" else ["triton"])
@pytest.mark.parametrize("relation", ["causal", "q >= 0"])
@pytest.mark.parametrize("body", POLES)
def test_pairs_without_probability_send_nothing(body: str, relation: str, backend: str) -> None:
    """Whatever the slopes of their scores of minus infinity are; full tiles and partial ones."""
    n = 40
    inputs = f"input w: float[tokens]  input t: float[{n}]"
    text = f"pattern poles(n = {n}) {{ space tokens[n]  {inputs}  attend {relation}  {body} }}"
    mask = maskdsl.parse(text)["poles"].bind(heads=1)
    generator = torch.Generator().manual_seed(3)
    q, k, v, toward = torch.randn(4, 1, 1, n, 16, generator=generator).to(DEVICE)
    w = torch.rand(n, generator=generator).to(DEVICE) + 0.5
    w[[1, 5, 33]] = 0
    w, t = (w.clone().requires_grad_() for _ in range(2))
    leaves = [*(x.requires_grad_() for x in (q, k, v)), w, t]
    found = torch.autograd.grad(mask.compile(backend)(q, k, v, w=w, t=t), leaves, toward)
    # By the definition, over the keys that are not hidden.
    there = w.detach() > 0
    known = torch.where(there, t if "t[k]" in body else w, 1)
    score, weight = POLES[body]
    attends = torch.tensor(mask.dense(), device=DEVICE) & there
    s = torch.where(attends, score(q @ k.mT, t[:, None], known), -torch.inf)
    p = torch.softmax(s, -1) * (1 if weight is None else weight(s, t[:, None], known))
    expected = torch.autograd.grad(p @ v, leaves, toward, materialize_grads=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# Scores that are very low

LOWEST = torch.finfo(torch.float32).min
FILLS = [-torch.inf, LOWEST, -1.0e9, -1.0e6]
N, PADDED = 72, 50


def exactly(q: Tensor, k: Tensor, v: Tensor, pad: Tensor, attends: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, log-sum-exp and which rows are empty, in float64 from scores rounded as kernels round them."""
    s = (q.double() @ k.double().mT / q.shape[-1] ** 0.5).float() + pad
    s = s.double().masked_fill(~attends, -torch.inf)
    highest = s.amax(-1, keepdim=True)
    empty = highest == -torch.inf
    weights = (s - highest.masked_fill(empty, 0)).exp()
    total = weights.sum(-1, keepdim=True).masked_fill(empty, 1)
    lse = (highest.masked_fill(empty, 0) + total.log()).masked_fill(empty, -torch.inf)
    return weights / total @ v.double(), lse.squeeze(-1), empty.squeeze(-1)


def drawn(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(shape, generator=generator).to(DEVICE, dtype).requires_grad_() for shape in shapes]


def padded(text: str, n: int = N) -> maskdsl.Mask:
    pattern = f"pattern padded(n = {n}) {{ space tokens[n]  input pad: float[batch, tokens]  {text} }}"
    return maskdsl.parse(pattern)["padded"].bind(heads=1)


TEXTS = [("attend causal", torch.float32), ("attend q >= 0", torch.bfloat16), ("attend k % 2 == 0", torch.float16)]


@pytest.mark.parametrize(("text", "dtype"), TEXTS)
@pytest.mark.parametrize("fill", FILLS)
def test_left_padding(fill: float, text: str, dtype: torch.dtype) -> None:
    """Of two entries one. Rows that see nothing else give the mean of what they see, or zeros where that is nothing."""
    mask = padded(f"{text}  score s + k.pad")
    pad = torch.zeros(2, N, device=DEVICE)
    pad[1, :PADDED] = fill
    attends = torch.tensor(mask.dense(), device=DEVICE)
    q, k, v, toward = drawn(*[(2, 1, N, 16)] * 4, dtype=dtype)
    found = mask.compile("triton")(q, k, v, pad=pad, return_lse=True)
    out, lse, empty = exactly(q, k, v, pad[:, None, None], attends)
    room = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found[0].double(), out, rtol=room, atol=room)
    torch.testing.assert_close(found[1].double(), lse, rtol=1e-5, atol=room)
    assert torch.equal(found[1].isneginf(), empty)
    # What is said to rows that see nothing is nothing, whatever it is.
    toward_lse = torch.randn(lse.shape, device=DEVICE).masked_fill(empty, torch.nan)
    toward = toward.detach().masked_fill(empty[..., None], torch.nan)
    own = torch.autograd.grad(found, (q, k, v), (toward, toward_lse))
    right = torch.autograd.grad((out, lse), (q, k, v), (x.double().nan_to_num(0) for x in (toward, toward_lse)))
    for one, other in zip(own, right, strict=True):
        torch.testing.assert_close(one, other, rtol=10 * room, atol=10 * room)


@pytest.mark.parametrize("fill", [LOWEST, -1.0e8, -3.0e6])
def test_gradients_of_rows_that_are_low(fill: float) -> None:
    """Of all that scores and weights read; beside a large score a log-sum-exp loses the logarithm of its sum."""
    more = f"input bias: float[heads, {2 * N - 1}]  input gain: float[tokens]"
    text = f"{more} attend causal  score s + k.pad  score s + bias[head, q - k + {N - 1}]  weight k.gain"
    pattern = f"pattern low(n = {N}) {{ space tokens[n]  input pad: float[batch, tokens]  {text} }}"
    mask = maskdsl.parse(pattern)["low"].bind(heads=2)
    shapes = [(2, 2, N, 16), (2, 1, N, 16), (2, 1, N, 16), (2, N), (2, 2 * N - 1), (N,)]
    leaves = drawn(*shapes)
    q, k, v, pad, bias, gain = leaves
    with torch.no_grad():
        pad[0, :PADDED] = fill
        pad[0, 1:PADDED:3] = torch.tensor(fill).nextafter(torch.tensor(0.0))  # by as little as a float can tell
        pad[1] = fill
    toward, toward_lse = (torch.randn(shape, device=DEVICE) for shape in ((2, 2, N, 16), (2, 2, N)))
    position = torch.arange(N, device=DEVICE)[:, None] - torch.arange(N, device=DEVICE) + N - 1
    s = (q.double() @ k.double().mT / 4).float() + pad[:, None, None] + bias[:, position]
    s = s.double().masked_fill(position < N - 1, -torch.inf)
    highest = s.detach().amax(-1)  # apart: `logsumexp` takes its gradient from the sum
    expected = torch.softmax(s, -1) * gain @ v.double(), (s - highest[..., None]).exp().sum(-1).log() + highest
    found = mask.compile("triton")(q, k, v, pad=pad, bias=bias, gain=gain, return_lse=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
    own = torch.autograd.grad(found, leaves, (toward, toward_lse))
    right = torch.autograd.grad(expected, leaves, (toward.double(), toward_lse.double()))
    for one, other in zip(own, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())


def test_passes_of_rows_that_are_low() -> None:
    """Log-sum-exps do not tell how much each pass weighs there."""
    text = """pattern routed(n = 24, top = 3) {
        space tokens[n]
        input pad: float[batch, tokens]
        coord chunk = i // 8
        route others = topk(top, dot(q, mean(k by chunk))) where k.chunk < q.chunk
        attend others
        attend causal and same(chunk)
        score s + k.pad
    }"""
    pad = torch.full((1, 24), LOWEST, device=DEVICE)
    pad[:, 20:] = 0
    q, k, v, toward = drawn(*[(1, 1, 24, 16)] * 4)
    found = maskdsl.parse(text)["routed"].bind(heads=1).compile("triton")(q, k, v, pad=pad)
    expected = exactly(q, k, v, pad[:, None, None], torch.ones(24, 24, dtype=torch.bool, device=DEVICE).tril())[0]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    own, right = (torch.autograd.grad(each, (q, k, v), toward.to(each.dtype)) for each in (found, expected))
    torch.testing.assert_close(own, right, rtol=1e-4, atol=1e-5)


def test_infinite_weights_of_pairs_that_are_hidden() -> None:
    """Nothing of them is seen, neither in the output nor in a gradient."""
    mask = padded("input w: float[tokens]  attend causal  score s + k.pad  weight k.w")
    pad, w = torch.zeros(1, N, device=DEVICE), drawn((N,))[0].detach()
    pad[:, 3:PADDED:2] = -torch.inf
    given = torch.where(pad[0] == 0, w, torch.inf).requires_grad_()
    q, k, v, toward = drawn(*[(1, 1, N, 16)] * 4)
    s = (q.double() @ k.double().mT / 4 + pad).masked_fill(~torch.tensor(mask.dense(), device=DEVICE), -torch.inf)
    known = w.double().requires_grad_()
    expected = torch.softmax(s, -1) * known @ v.double()
    found = mask.compile("triton")(q, k, v, pad=pad, w=given)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    own = torch.autograd.grad(found, (q, k, v, given), toward.detach())
    right = torch.autograd.grad(expected, (q, k, v, known), toward.detach().double())
    for one, other in zip(own, right, strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("paged", [False, True])
def test_decoding_of_padded_keys(paged: bool, fill: float) -> None:
    """Splits see unequal numbers of keys: all of one entry's are hidden, of the second most, of the third none."""
    mask = padded("attend causal  score s + k.pad")
    pad = torch.zeros(3, N, device=DEVICE)
    pad[0], pad[1, :PADDED] = fill, fill
    lengths = torch.tensor([40, 60, 72], device=DEVICE)
    q, k, v = (x.detach() for x in drawn((3, 1, 1, 16), (3, 1, 80, 16), (3, 1, 80, 16)))
    attends = (torch.arange(N, device=DEVICE) < lengths[:, None])[:, None, None]
    where = {"query_start": lengths - 1, "key_lengths": lengths}
    keys = (k[:, :, :N], v[:, :, :N])
    if paged:
        where["page_table"] = torch.arange(15, device=DEVICE).view(3, 5).int()
        keys = tuple(x.unflatten(2, (5, 16)).transpose(1, 2).flatten(0, 1) for x in (k, v))
    found = mask.compile("triton")(q, *keys, pad=pad, return_lse=True, **where)
    out, lse, empty = exactly(q, k[:, :, :N], v[:, :, :N], pad[:, None, None], attends)
    torch.testing.assert_close(found[0].double(), out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1].double(), lse, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[1].isneginf(), empty)


# Views


@pytest.mark.skipif(DEVICE.type != "cpu", reason="memory that is never touched costs nothing on the host alone")
def test_tables_may_be_views_of_tensors_whose_offsets_need_64_bits() -> None:
    """Elements more than 2 ** 31 behind the first, in the last head and the last query, forward and backward."""
    n = 34
    text = f"""
    pattern biased(n = {n}) {{
        space tokens[n]
        input bias: float[batch, heads, tokens, tokens]
        attend causal
        score s + bias[batch, head, q, k]
    }}
    pattern gated(n = {n}) {{
        space tokens[n]
        input gate: bool[heads, tokens, tokens]
        attend gate[head, q, k] or q == k
    }}
    """
    module = maskdsl.parse(text)
    generator = torch.Generator().manual_seed(1)
    q, k, v, toward = (torch.randn(1, 1, n, 16, generator=generator).requires_grad_() for _ in range(4))
    bias = torch.randn(1, 1, n, n, generator=generator).half()
    for name, given, values in (("biased", "bias", bias), ("gated", "gate", bias[0] > 0)):
        buffer = tensors.empty(n * 2**26, dtype=values.dtype)  # of which little is touched
        large = buffer.as_strided(values.shape, (0, 2**25, 2**26, 1)[-values.dim() :])
        large.copy_(values)
        attention = module[name].bind(heads=1).compile("triton")
        one = q[:, :, -1:].detach(), k.detach(), v.detach()
        results, gradients, decoded = [], [], []
        for each in (large, values):
            results.append(attention(q, k, v, **{given: each}))
            gradients.append(torch.autograd.grad(results[-1], (q, k, v), toward))
            decoded.append(attention(*one, query_start=n - 1, **{given: each}))
        torch.testing.assert_close(*results, rtol=0, atol=0)
        torch.testing.assert_close(*gradients, rtol=0, atol=0)
        torch.testing.assert_close(*decoded, rtol=0, atol=0)


def far_apart(values: Tensor) -> Tensor:
    """The same numbers with 2 ** 26 elements between tokens, one behind the other for 34 of them."""
    buffer = tensors.empty(34 * 2**26, dtype=values.dtype)
    return buffer.as_strided(values.shape, (2**25, 2**24, 2**26, 1)).copy_(values)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "of one head": lambda x: x[:, :1].clone().expand_as(x),
    "fused": lambda x: torch.cat([x, x + 1, x + 2], -1)[..., : x.shape[-1]],
    "dims not side by side": lambda x: x.mT.contiguous().mT,
}
if DEVICE.type == "cpu":  # memory that is never touched costs nothing there alone
    VIEWS["far apart"] = far_apart


@pytest.mark.parametrize("view", VIEWS)
def test_queries_keys_and_values_may_be_views(view: str) -> None:
    """Of which one alone has a gradient: the output and that are as they are of tensors without gaps."""
    mask = maskdsl.parse("pattern local(n) { space tokens[n]  attend window(9) and causal }")["local"].bind(
        n=34, heads=2
    )
    attention = mask.compile("triton")
    plain = [x.detach() for x in drawn(*[(2, 2, 34, 16)] * 4, dtype=torch.float16)]
    given = [VIEWS[view](x) for x in plain]
    whole = [x.contiguous() for x in given]
    number = list(VIEWS).index(view) % 3
    results = []
    for *leaves, toward in (given, whole):
        leaves[number] = leaves[number].detach().requires_grad_()
        out = attention(*leaves)
        results.append((out, *torch.autograd.grad(out, leaves[number], toward)))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    one = [(q[:, :, -1:], k, v) for q, k, v, _ in (given, whole)]
    torch.testing.assert_close(*(attention(*each, query_start=33) for each in one), rtol=0, atol=0)


@pytest.mark.parametrize("fill", [-torch.inf, LOWEST])
def test_packed_sequences_of_padded_keys(fill: float) -> None:
    """Sequences of none, one and many tokens, all of one of them hidden."""
    mask = padded("attend causal  score s + k.pad", n=50)
    cuts = [0, 0, 1, 20, 70]
    pad = torch.zeros(4, 50, device=DEVICE)
    pad[2], pad[3, :30] = fill, fill
    q, k, v = (x.detach() for x in drawn(*[(70, 1, 16)] * 3))
    out = mask.compile("triton").varlen(q, k, v, cu_seqlens_q=torch.tensor(cuts, device=DEVICE), pad=pad)
    for entry in (1, 2, 3):
        own = slice(cuts[entry], cuts[entry + 1])
        count = own.stop - own.start
        attends = torch.ones(count, count, dtype=torch.bool, device=DEVICE).tril()
        right = exactly(*(x[own].transpose(0, 1) for x in (q, k, v)), pad[entry, :count], attends)[0]
        torch.testing.assert_close(out[own].transpose(0, 1).double(), right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fill", FILLS)
def test_decoding_of_none_and_of_one_key(fill: float) -> None:
    mask = padded("attend k >= 0  score s + k.pad")
    lengths = torch.tensor([0, 1, 1], device=DEVICE)
    pad = torch.zeros(3, N, device=DEVICE)
    pad[2] = fill
    q, k, v = (x.detach() for x in drawn((3, 1, 1, 16), (3, 1, N, 16), (3, 1, N, 16)))
    found = mask.compile("triton")(q, k, v, pad=pad, query_start=3, key_lengths=lengths, return_lse=True)
    attends = (torch.arange(N, device=DEVICE) < lengths[:, None])[:, None, None]
    out, lse, _ = exactly(q, k, v, pad[:, None, None], attends)
    torch.testing.assert_close(found[0].double(), out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1].double(), lse, rtol=1e-5, atol=1e-5)

"""Patterns with sinks, factors and normalizations of their own, and what published code computes in float64.

An oracle maps q, k, v and the inputs to the output, and to the log-sum-exp where there is one. `check` holds a backend
against it: all queries, some of them, packed sequences, and all gradients.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

import maskdsl
from tests.catalogue.compared import EXAMPLES
from tests.catalogue.sources import decays, scores_of_text

Results = tuple[Tensor, Tensor | None]
ROOM = 1e-12


@dataclass(frozen=True)
class Normalized:
    """A pattern at some lengths, and its oracle."""

    text: str
    """Where the pattern stands, under the name below."""
    oracle: Callable[..., Results]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Of the inputs, all floats."""
    made: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    """From leaves of these shapes to the inputs of the pattern."""
    lengths: Mapping[str, int] = field(default_factory=lambda: {"n": 21})
    heads: tuple[int, int] = (4, 2)
    batch: int = 2
    follows: bool = True
    """Whether its inputs serve packed sequences, and its last queries can be computed alone."""
    keeps_parts: bool = True
    """Whether its last queries can be computed alone."""
    name: str = "p"

    @property
    def mask(self) -> maskdsl.Mask:
        return maskdsl.parse(self.text)[self.name].bind(heads=self.heads[0], **self.lengths)

    def leaves(self, dtype: torch.dtype, dim: int) -> dict[str, Tensor]:
        """q, k, v and what inputs are made from."""
        random = torch.Generator().manual_seed(0)
        mask, (heads, key_heads) = self.mask, self.heads
        shapes = {"q": (self.batch, heads, mask.query_length, dim)}
        shapes |= dict.fromkeys("kv", (self.batch, key_heads, mask.given_key_length, dim))
        shapes |= self.shapes
        drawn = {name: torch.randn(shape, generator=random, dtype=torch.float64) for name, shape in shapes.items()}
        return {name: x.to(dtype).requires_grad_() for name, x in drawn.items()}


def check(case: Normalized, backend: str, dtype: torch.dtype = torch.float64, dim: int = 8, room: float = ROOM) -> None:
    """Raises where a backend differs from the oracle."""
    leaves = case.leaves(dtype, dim)
    exact = {name: x.detach().double().requires_grad_() for name, x in leaves.items()}
    expected = case.oracle(**exact)
    toward = [torch.randn(x.shape, generator=torch.Generator().manual_seed(n)) for n, x in _given(expected)]
    attention = case.mask.compile(backend)
    found = _call(case, attention, leaves, expected[1] is not None)
    for (_, x), (_, wanted) in zip(_given(found), _given(expected), strict=True):
        _close("all queries", x, wanted, room)
    grads = _gradients(found, leaves, toward, dtype)
    wanted_grads = _gradients(expected, exact, toward, torch.float64)
    for name, grad in grads.items():
        _close(f"the gradient of {name}", grad, wanted_grads[name], room)
    if case.follows:
        _check_parts(case, attention, leaves, exact, expected, toward, room)


def _call(case: Normalized, attention: maskdsl.Attention, leaves: dict[str, Tensor], has_sums: bool, **how) -> Results:
    given = {name: x for name, x in leaves.items() if name not in "qkv"}
    q = how.pop("queries", leaves["q"])
    called = attention(q, leaves["k"], leaves["v"], **case.made(given), **how, return_lse=has_sums)
    return called if has_sums else (called, None)


def _check_parts(case, attention, leaves, exact, expected: Results, toward: list[Tensor], room: float) -> None:
    """The batch entries as packed sequences, and the last queries, without gradients and with them."""
    has_sums, length = expected[1] is not None, leaves["q"].shape[2]
    if case.keeps_parts:
        _check_last(case, attention, leaves, exact, expected, toward, room)
    ends = torch.arange(case.batch + 1) * length
    packed = {name: x.transpose(1, 2).flatten(0, 1) if name in "qkv" else x for name, x in leaves.items()}
    given = case.made({name: x for name, x in packed.items() if name not in "qkv"})
    called = attention.varlen(*(packed[name] for name in "qkv"), ends, return_lse=has_sums, **given)
    out = (called[0] if has_sums else called).unflatten(0, (case.batch, length)).transpose(1, 2)
    _close("packed sequences", out, expected[0], room)
    grads = _gradients((out, None), leaves, toward, leaves["q"].dtype)
    for name, wanted in _gradients((expected[0], None), exact, toward, torch.float64).items():
        _close(f"the packed gradient of {name}", grads[name], wanted, room)


def _check_last(case, attention, leaves, exact, expected: Results, toward: list[Tensor], room: float) -> None:
    has_sums, last = expected[1] is not None, leaves["q"].shape[2] - 3
    with torch.no_grad():
        found = _call(case, attention, leaves, has_sums, queries=leaves["q"][:, :, last:], query_start=last)
    for (_, x), (_, wanted) in zip(_given(found), _given(expected), strict=True):
        _close("decoding", x, wanted[:, :, last:], room)
    found = _call(case, attention, leaves, has_sums, queries=leaves["q"][:, :, last:], query_start=last)
    ends = [each[:, :, last:] for each in toward]
    again = [each if each is None else each[:, :, last:] for each in expected]
    grads = _gradients(found, leaves, ends, leaves["q"].dtype)
    for name, wanted in _gradients(again, exact, ends, torch.float64).items():
        _close(f"a chunk's gradient of {name}", grads[name], wanted, room)


def _given(results) -> list[tuple[int, Tensor]]:
    return [(n, x) for n, x in enumerate(results) if x is not None]


def _gradients(results, leaves: dict[str, Tensor], toward: list[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    loss = sum(
        ((x * each.to(x.dtype))[x.detach().isfinite()]).sum()
        for (_, x), each in zip(_given(results), toward, strict=False)
    )
    grads = torch.autograd.grad(loss, [*leaves.values()], retain_graph=True, materialize_grads=True, allow_unused=True)
    return dict(zip(leaves, grads, strict=True))


def _close(what: str, found: Tensor, expected: Tensor, room: float) -> None:
    found, size = found.double(), expected.detach()[expected.isfinite()].abs().max().clamp(min=1)
    torch.testing.assert_close(found / size, expected / size, rtol=0, atol=room, msg=lambda text: f"{what}: {text}")


def assert_no_gradient_of_nothing(normalize: str, backend: str) -> None:
    """Whatever gradient arrives for the output of a query without keys."""
    text = f"pattern p(n = 9) {{ space t[n] attend causal and q != 3 normalize {normalize} }}"
    leaves = [torch.randn(1, 1, 9, 16, generator=torch.Generator().manual_seed(n)).requires_grad_() for n in range(3)]
    out = maskdsl.parse(text)["p"].bind().compile(backend)(*leaves)
    toward = torch.ones_like(out)
    expected = torch.autograd.grad(out, leaves, toward, retain_graph=True)
    toward[:, :, 3] = torch.nan
    for found, wanted in zip(torch.autograd.grad(out, leaves, toward), expected, strict=True):
        torch.testing.assert_close(found, wanted)


# The oracles


def scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.repeat_interleave(q.shape[1] // k.shape[1], dim=1).mT * q.shape[-1] ** -0.5


def times_values(p: Tensor, v: Tensor) -> Tensor:
    return p @ v.repeat_interleave(p.shape[1] // v.shape[1], dim=1)


def causal(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()


def gpt_oss(q: Tensor, k: Tensor, v: Tensor, logit: Tensor) -> Results:
    """`eager_attention_forward` of transformers' gpt-oss: a last column of logits, dropped behind the softmax."""
    positions = torch.arange(q.shape[2])
    attends = causal(q.shape[2]) & (positions[:, None] - positions < 8)
    s = scores(q, k).masked_fill(~attends, -torch.inf)
    ends = torch.cat([s, logit[:, None, None].expand(*q.shape[:3], 1)], dim=-1)
    return times_values(ends.softmax(dim=-1)[..., :-1], v), ends.logsumexp(dim=-1)


def softmax_one(q: Tensor, k: Tensor, v: Tensor) -> Results:
    """exp(s) / (1 + sum of exp(s)), as in `softmax_n` of softmaxn 0.2."""
    s = scores(q, k).masked_fill(~causal(q.shape[2]), -torch.inf)
    shift = s.amax(dim=-1, keepdim=True).clamp(min=0).detach()
    below = (-shift).exp() + (s - shift).exp().sum(dim=-1, keepdim=True)
    return times_values((s - shift).exp() / below, v), (below.log() + shift)[..., 0]


def two_sinks(q: Tensor, k: Tensor, v: Tensor, worth: Tensor, logit: Tensor) -> Results:
    """Extra keys of values of zero: of a query and a head, of every third query, and none where that is -inf."""
    n = q.shape[2]
    s = scores(q, k).masked_fill(~causal(n).tril(-1) | (torch.arange(n) == 3)[:, None], -torch.inf)
    first = (worth[:, None] + logit[:, None])[..., None]
    second = (torch.arange(n, dtype=torch.float64) % 3).log()[:, None].expand(*q.shape[:3], 1)
    ends = torch.cat([s, first, second], dim=-1)
    return times_values(ends.softmax(dim=-1)[..., :n], v), ends.logsumexp(dim=-1)


def affine_factor(q: Tensor, k: Tensor, v: Tensor, alpha: Tensor) -> Results:
    """Affine-Scaled attention without its additive term: the probabilities of a query times alpha, which may be < 0."""
    s = scores(q, k).masked_fill(~causal(q.shape[2]), -torch.inf)
    return times_values(s.softmax(dim=-1) * alpha[..., None], v), s.logsumexp(dim=-1)


SIZE, OVERLAP, SIDE = 4, 2, 8
"""Of HAT: a window of queries, how far a window of keys reaches beyond it, and the image."""


def hat_bias(table: Tensor) -> Tensor:
    """[heads, queries of a window, keys of a window], from a table [heads, distances, distances]."""
    inner, outer = torch.arange(SIZE), torch.arange(SIZE + 2 * OVERLAP) - OVERLAP
    apart = outer[None, :] - inner[:, None] + SIZE - 1 + OVERLAP
    return table[:, apart[:, None, :, None], apart[None, :, None, :]].flatten(3).flatten(1, 2)


def hat(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Results:
    """XPixelGroup/HAT 1638a9a, `OCAB.forward`: `nn.Unfold` pads keys and values with zeros, which have a bias too."""
    wide = SIZE + 2 * OVERLAP

    def windows(x: Tensor) -> Tensor:
        image = x.mT.reshape(-1, x.shape[-1], SIDE, SIDE)
        cut = torch.nn.functional.unfold(image, kernel_size=wide, stride=SIZE, padding=OVERLAP)
        return cut.view(*x.shape[:2], x.shape[-1], wide * wide, -1).permute(0, 1, 4, 3, 2)

    def split(x: Tensor) -> Tensor:
        return x.unflatten(2, (SIDE // SIZE, SIZE, SIDE // SIZE, SIZE)).transpose(3, 4).flatten(2, 3).flatten(3, 4)

    s = split(q) @ windows(k).mT * q.shape[-1] ** -0.5 + hat_bias(table)[:, None]

    def joined(x: Tensor) -> Tensor:
        rows = x.unflatten(2, (SIDE // SIZE, SIDE // SIZE)).unflatten(4, (SIZE, SIZE)).transpose(3, 4)
        return rows.reshape(*x.shape[:2], SIDE * SIDE, *x.shape[4:])

    return joined(s.softmax(dim=-1) @ windows(v)), joined(s.logsumexp(dim=-1))


def hat_inputs(leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The table, and the logarithm of the sum of exp(bias) over the places outside of the image."""
    places = torch.arange(SIDE)
    start = places // SIZE * SIZE
    seen = start[:, None] - OVERLAP + torch.arange(SIZE + 2 * OVERLAP)  # [place, key of its window], along one axis
    inside = (seen >= 0) & (seen < SIDE)
    apart = seen - places[:, None] + SIZE - 1 + OVERLAP
    bias = leaves["table"][:, apart[:, None, :, None], apart[None, :, None, :]]
    outside = ~(inside[:, None, :, None] & inside[None, :, None, :])
    return {**leaves, "border": bias.masked_fill(~outside, -torch.inf).flatten(3).logsumexp(dim=-1).flatten(1)}


def outputs(attention: Callable[..., Tensor]) -> Callable[..., Results]:
    """A source of the catalogue as an oracle without log-sum-exps."""
    return lambda **leaves: (attention(**leaves), None)


def relu(q: Tensor, k: Tensor, v: Tensor, worth: Tensor) -> Results:
    """Rectified attention, weighted by keys, behind a gate of the query."""
    n = q.shape[2]
    p = scores(q, k).relu().masked_fill(~causal(n) | (torch.arange(n) == 3)[:, None], 0)
    return times_values(p * worth[:, None, None, :] * worth.sigmoid()[:, None, :, None], v), None


def weighted_by_keys(q: Tensor, k: Tensor, v: Tensor, worth: Tensor, bias: Tensor) -> Results:
    """A softmax over the queries of a window, where queries and keys have a say in scores and weights."""
    n = q.shape[2]
    apart = torch.arange(n)[:, None] - torch.arange(n)
    s = scores(q, k) * bias[apart + n - 1] + worth[:, None, :, None]
    s = s.masked_fill((apart < 0) | (apart > 8) | (torch.arange(n) == 3)[:, None], -torch.inf)
    p = s.softmax(dim=-2).nan_to_num() * (worth[:, None, None, :] + bias[apart + n - 1]).sigmoid()
    return times_values(p * worth[:, None, :, None], v), None


CASES = {
    "gpt-oss": Normalized(
        (EXAMPLES / "language/gpt_oss.attn").read_text(),
        gpt_oss,
        {"logit": (4,)},
        lengths={"n": 21, "size": 8},
        name="sliding",
    ),
    "softmax-one": Normalized("pattern p(n) { space tokens[n] attend causal sink 0.0 }", softmax_one),
    "two sinks": Normalized(
        "pattern p(n) { space tokens[n] input worth: float[batch, tokens] input logit: float[heads]"
        " attend k < q and q != 3 sink q.worth + logit[head] sink log(float(q % 3)) order by -i }",
        two_sinks,
        {"worth": (2, 21), "logit": (4,)},
    ),
    "a factor": Normalized(
        "pattern p(n) { space tokens[n] input alpha: float[batch, heads, tokens] attend causal weight q.alpha }",
        affine_factor,
        {"alpha": (2, 4, 21)},
    ),
    "affine": Normalized(
        (EXAMPLES / "language/affine.attn").read_text(),
        outputs(scores_of_text.affine),
        {"alpha": (2, 4, 21), "beta": (2, 4, 21)},
        name="affine",
    ),
    "HAT": Normalized(
        "pattern p(h = 8, w = 8, size = 4, overlap = 2) { space image[y = h, x = w]"
        " input table: float[heads, 2 * size + 2 * overlap - 1, 2 * size + 2 * overlap - 1]"
        " input border: float[heads, image]"
        " attend all(-overlap <= k.a - q.a // size * size < size + overlap for a in (y, x))"
        " score s + table[head, k.y - q.y + size - 1 + overlap, k.x - q.x + size - 1 + overlap] sink q.border }",
        hat,
        {"table": (2, 2 * SIZE + 2 * OVERLAP - 1, 2 * SIZE + 2 * OVERLAP - 1)},
        hat_inputs,
        lengths={},
        heads=(2, 2),
        follows=False,
    ),
    "RMT": Normalized(
        (EXAMPLES / "vision/manhattan.attn").read_text(),
        outputs(decays.manhattan(6, 8)),
        {"gamma": (4,)},
        lengths={"h": 6, "w": 8},
        heads=(4, 4),
        name="manhattan",
    ),
    "Gated-SwinRMT": Normalized(
        (EXAMPLES / "vision/gated_swin_rmt.attn").read_text(),
        outputs(decays.in_shifted_windows(6, 8, 4, 2, "x", is_sigmoid=True)),
        {"gamma": (4,)},
        lengths={"h": 6, "w": 8, "size": 4, "shift": 2},
        heads=(4, 4),
        name="swat",
    ),
    "ReLU": Normalized(
        "pattern p(n) { space tokens[n] input worth: float[batch, tokens] attend causal and q != 3"
        " score max(s, 0.0) normalize none weight k.worth * sigmoid(q.worth) }",
        relu,
        {"worth": (2, 21)},
    ),
    "DependencyViT": Normalized(
        (EXAMPLES / "language/dependency.attn").read_text(),
        outputs(scores_of_text.dependency),
        heads=(2, 2),
        keeps_parts=False,
        name="dependency",
    ),
    "weights of keys": Normalized(
        "pattern p(n) { space tokens[n] input worth: float[batch, tokens] input bias: float[2 * n - 1]"
        " attend causal and q - k < 9 and q != 3 score s * bias[q - k + n - 1] + q.worth"
        " weight q.worth * sigmoid(k.worth + bias[q - k + n - 1]) normalize softmax by k order by -i }",
        weighted_by_keys,
        {"worth": (2, 21), "bias": (41,)},
        keeps_parts=False,
    ),
}

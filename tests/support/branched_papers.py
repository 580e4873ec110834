"""Published attentions that are sums of softmaxes, as one pattern each, and float64 code of their released models."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

import maskdsl
from tests.catalogue.compared import EXAMPLES
from tests.catalogue.sources import scores_of_text

ADAPTER = """
## IP-Adapter: attention to a text, and beside it, by its own softmax, to a picture.
pattern adapter(n = 20, text_length = 7, pictures = 4) {
    space image[n]
    space text[text_length]
    space picture[pictures]
    queries image
    keys text ++ picture
    input strength: float

    branch text {
        attend all -> text
    }

    branch picture {
        attend all -> picture
        weight strength
    }
}
"""

NSA = (Path(__file__).parents[2] / "benchmarks" / "words.attn").read_text()


def adapter(q: Tensor, k: Tensor, v: Tensor, strength: Tensor) -> Tensor:
    """`IPAttnProcessor` of IP-Adapter."""
    outs = []
    for keys in (slice(7), slice(7, None)):
        scores = q @ k[:, :, keys].transpose(-1, -2) * q.shape[-1] ** -0.5
        outs.append(scores.softmax(-1) @ v[:, :, keys])
    return outs[0] + strength * outs[1]


def nsa(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, worth: Tensor) -> Tensor:
    """Native Sparse Attention by its formulas: the sum of three gated attentions."""
    shared = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(shared, dim=1) for x in (k, v))
    i, j = torch.arange(24)[:, None], torch.arange(24)
    means = [x.view(*x.shape[:2], 6, 4, -1).mean(dim=3) for x in (k, v)]
    past = torch.arange(6) < i // 4
    best = worth.masked_fill(~past, -torch.inf).topk(2, dim=-1)
    picked = torch.zeros_like(worth, dtype=torch.bool).scatter_(-1, best.indices, best.values > -torch.inf)
    whole = (torch.arange(6) + 1) * 4 <= i + 1
    chosen = (picked[..., j // 4] | (j // 4 == i // 4)) & (j <= i)
    near = (j <= i) & (i - j < 6)
    out = torch.zeros_like(q)
    for number, (keys, values, attends) in enumerate(((*means, whole), (k, v, chosen), (k, v, near))):
        scores = (q @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~attends, -torch.inf)
        empty = ~attends.any(-1, keepdim=True)
        p = scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)
        out = out + gate[number][..., None] * (p @ values)
    return out


class Paper(NamedTuple):
    """A pattern, the sizes of its tensors, and what its model computes."""

    text: str
    queries: int
    keys: int
    inputs: Mapping[str, tuple[int, ...]]
    """Their shapes, for 2 batch entries of 2 heads."""
    expected: Callable[..., Tensor]
    key_heads: int = 2
    name: str = ""
    """The pattern, where there are several in the text."""
    sizes: Mapping[str, int] = MappingProxyType({})
    """Its parameters."""

    def check(self, backend: str, dtype: torch.dtype = torch.float64, dim: int = 8) -> None:
        """Holds the output and all gradients against the model's, in float64."""
        generator = torch.Generator().manual_seed(3)

        def leaf(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        exact = [leaf(2, 2, self.queries, dim), *(leaf(2, self.key_heads, self.keys, dim) for _ in "kv")]
        named = {name: leaf(*shape) for name, shape in self.inputs.items()}
        module = maskdsl.parse(self.text)
        pattern = module[self.name or next(iter(module))]
        results = []
        for kind, compute in (
            (torch.float64, self.expected),
            (dtype, pattern.bind(heads=2, **self.sizes).compile(backend)),
        ):
            leaves = [x.to(kind).requires_grad_() for x in (*exact, *named.values())]
            out = compute(*leaves[:3], **dict(zip(named, leaves[3:], strict=True)))
            grads = torch.autograd.grad(out.double().sin().sum(), leaves, allow_unused=True, materialize_grads=True)
            results.append([out, *grads])
        room = {"atol": 1e-9, "rtol": 1e-9} if dtype is torch.float64 else {"atol": 2e-5, "rtol": 2e-4}
        for name, found, wanted in zip(("out", *"qkv", *named), *reversed(results), strict=True):
            torch.testing.assert_close(found.double(), wanted, **room, msg=lambda told, name=name: f"{name}: {told}")


PAPERS = {
    "differential": Paper(
        (EXAMPLES / "language/differential.attn").read_text(),
        20,
        20,
        {"q2": (2, 2, 20, 8), "k2": (2, 2, 20, 8), "lambda_": (2,)},
        scores_of_text.differential,
        sizes={"n": 20},
    ),
    "adapter": Paper(ADAPTER, 20, 11, {"strength": ()}, adapter),
    "nsa": Paper(
        NSA,
        24,
        24,
        {"gate": (3, 2, 2, 24), "worth": (2, 2, 24, 6)},
        nsa,
        key_heads=1,
        name="nsa",
        sizes={"n": 24, "block": 4, "top": 2, "size": 6},
    ),
}

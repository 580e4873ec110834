"""Queries without any score of more than minus infinity, for tests of every backend: what is given, and what is right.

Right is a softmax in float64 that is written here, with the gradients that torch finds for it; `torch`'s own attention,
in the same type as the backend, says how far from that a good result may be.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import maskdsl

RELATIONS = {"causal": "causal", "full": "all -> all"}
FILLS = ("-inf", "finfo.min")
PADDED = """
pattern padded(n) {{
    space tokens[n]
    input pad: float[batch, tokens]
    attend {relation}
    score s + k.pad
}}
"""
ROUTED = """
pattern padded(n, top) {{
    space tokens[n]
    input pad: float[batch, tokens]
    coord chunk = i // 16
    route others = topk(top, dot(q, mean(k by chunk))) where {candidates}
    attend others
    attend {own}
    score s + k.pad
}}
"""
PARTS = {"causal": ("k.chunk < q.chunk", "causal and same(chunk)"), "full": ("k.chunk != q.chunk", "same(chunk)")}


class Way(Protocol):
    """Of a call: the output and the log-sum-exp of all queries, from keys of which entries have the first few."""

    def __call__(
        self, attention: maskdsl.Attention, q: Tensor, k: Tensor, v: Tensor, pad: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]: ...


def plainly(attention, q, k, v, pad, lengths):
    return attention(q, k, v, pad=pad, return_lse=True)


def in_pages(attention, q, k, v, pad, lengths):
    """Pages of 16 keys, in no order, of which those behind the last key of an entry do not exist."""
    count = len(k) * k.shape[2] // 16
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    pages = [x.unflatten(2, (-1, 16)).transpose(1, 2).flatten(0, 1)[order] for x in (k, v)]
    table = order.argsort().view(len(k), -1)
    table = table.masked_fill(torch.arange(table.shape[1]) * 16 >= lengths[:, None], -1)
    return attention(q, *pages, page_table=table, key_lengths=lengths, pad=pad, return_lse=True)


def packed(attention, q, k, v, pad, lengths):
    there = torch.arange(k.shape[2]) < lengths[:, None]
    own = [x.transpose(1, 2)[mask] for x, mask in ((q, torch.ones_like(there)), (k, there), (v, there))]
    ends = [torch.nn.functional.pad(x.cumsum(0), (1, 0)) for x in (torch.full_like(lengths, q.shape[2]), lengths)]
    out, lse = attention.varlen(*own, *ends, query_start=torch.zeros_like(lengths), pad=pad, return_lse=True)
    return out.unflatten(0, (len(q), -1)).transpose(1, 2), lse.unflatten(1, (len(q), -1)).transpose(0, 1)


WAYS: dict[str, Way] = {"plainly": plainly, "in pages": in_pages, "packed": packed}


@dataclass(frozen=True)
class Padded:
    """Keys of the batch's first entry are padded on the left, all of the second, none of the third; by a bias."""

    relation: str
    fill: str
    dtype: torch.dtype
    length: int = 256
    way: str = "plainly"
    routed: bool = False
    """The same pairs, those of other chunks by a route that finds them all: computed in two passes."""

    @property
    def mask(self) -> maskdsl.Mask:
        if self.routed:
            candidates, own = PARTS[self.relation]
            pattern = maskdsl.parse(ROUTED.format(candidates=candidates, own=own))["padded"]
            return pattern.bind(n=self.length, top=self.length // 16, heads=1)
        return maskdsl.parse(PADDED.format(relation=RELATIONS[self.relation]))["padded"].bind(n=self.length, heads=1)

    @property
    def lengths(self) -> Tensor:
        """How many keys each entry has."""
        n = self.length
        return torch.tensor([n, n, n] if self.way == "plainly" else [n - 9, n // 2, 21])

    def tensors(self) -> dict[str, Tensor]:
        torch.manual_seed(self.length)
        found = {name: torch.randn(3, 1, self.length, 8, dtype=self.dtype) for name in ("q", "k", "v", "toward")}
        pad = torch.zeros(3, self.length, dtype=self.dtype)
        fill = -torch.inf if self.fill == "-inf" else torch.finfo(self.dtype).min
        pad[0, : self.length * 5 // 12] = fill
        pad[1] = fill
        return {**found, "pad": pad, "toward_lse": torch.randn(3, 1, self.length)}

    def bias(self, pad: Tensor) -> Tensor:
        """[batch, 1, queries, keys]: minus infinity for pairs that do not attend."""
        later = torch.ones(self.length, self.length, dtype=torch.bool).triu(1) & (self.relation == "causal")
        absent = torch.arange(self.length) >= self.lengths[:, None, None, None]
        return pad[:, None, None, :].masked_fill(later | absent, -torch.inf)

    def softmax(self, q: Tensor, k: Tensor, v: Tensor, pad: Tensor) -> tuple[Tensor, Tensor]:
        """As the language has it."""
        s = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + self.bias(pad)
        highest = s.detach().amax(dim=-1, keepdim=True)
        empty = highest == -torch.inf
        p = torch.exp(s.masked_fill(empty, 0) - highest.masked_fill(empty, 0)).masked_fill(empty, 0)
        total = p.sum(dim=-1, keepdim=True).masked_fill(empty, 1)
        return p / total @ v, (total.log() + highest)[..., 0]

    def sdpa(self, q: Tensor, k: Tensor, v: Tensor, pad: Tensor) -> tuple[Tensor, None]:
        with sdpa_kernel(SDPBackend.MATH):
            return scaled_dot_product_attention(q, k, v, attn_mask=self.bias(pad)), None

    def check_gradients_of_both(self, backend: str) -> None:
        """The output, the log-sum-exp, and gradients along both: whatever comes for an empty row, none leaves it."""
        attention = self.mask.compile(backend)
        tensors = self.tensors()
        expected = _results(self.softmax, {name: x.double() for name, x in tensors.items()})
        way, lengths = WAYS[self.way], self.lengths
        found = _results(lambda *leaves: way(attention, *leaves, lengths), tensors, hostile=torch.nan)
        room = 0.02 if self.dtype == torch.bfloat16 else 1e-9 if self.dtype == torch.float64 else 2e-5
        for name, value in expected.items():
            _assert_near(found[name], value, room * value[value.abs() < 1e30].abs().max().item(), f"{self}: {name}")

    def check_against_sdpa(self, backend: str) -> None:
        """Errors of the output and of all gradients are at most twice those of torch's attention in this type."""
        attention = self.mask.compile(backend)
        tensors = {name: x for name, x in self.tensors().items() if name != "toward_lse"}
        expected = _results(self.softmax, {name: x.double() for name, x in tensors.items()})
        found = _results(lambda q, k, v, pad: (attention(q, k, v, pad=pad), None), tensors)
        theirs = _results(self.sdpa, tensors)
        for name, value in expected.items():
            least = torch.finfo(self.dtype).eps * value.abs().max().item()
            room = 2 * (theirs[name].double() - value).abs().max().item() + least
            _assert_near(found[name], value, room, f"{self}: {name}")


def _results(function, tensors: dict[str, Tensor], hostile: float = 0.0) -> dict[str, Tensor]:
    """Output, log-sum-exp if its direction is given, and gradients; `hostile` is what comes for empty rows."""
    leaves = {name: tensors[name].clone().requires_grad_() for name in ("q", "k", "v", "pad")}
    out, lse = function(*leaves.values())
    pairs, results = [(out, tensors["toward"])], {"out": out.detach()}
    if "toward_lse" in tensors:
        results["lse"] = lse.detach()
        pairs.append((lse, tensors["toward_lse"].to(lse.dtype)))
        empty = lse.detach() == -torch.inf
        pairs = [
            (pairs[0][0], pairs[0][1].masked_fill(empty[..., None], hostile)),
            (lse, pairs[1][1].masked_fill(empty, hostile)),
        ]
    values, directions = zip(*pairs, strict=True)
    grads = torch.autograd.grad(values, [*leaves.values()], directions)
    return {**results, **dict(zip(leaves, grads, strict=True))}


def _assert_near(found: Tensor, expected: Tensor, room: float, what: str) -> None:
    found, infinite = found.double(), expected.isinf()
    assert torch.equal(found.isinf() & (found == expected), infinite), what
    torch.testing.assert_close(
        found.masked_fill(infinite, 0),
        expected.masked_fill(infinite, 0),
        rtol=1e-6,
        atol=room,
        msg=lambda m: f"{what}: {m}",
    )

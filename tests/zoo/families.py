"""What a family of models is compared by, and the comparison."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

import maskdsl


@dataclass(frozen=True)
class Compared:
    """An attention of a module with its tokens in the order of a pattern, and the pattern's."""

    mask: maskdsl.Mask
    q: Tensor
    """[batch, heads, queries, dim]"""
    k: Tensor
    v: Tensor
    out: Tensor
    """[batch, heads, queries, dim], the module's."""
    leaves: tuple[Tensor, ...]
    """The tensors of the module's graph, of which gradients are compared."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    scale: float | None = None
    """What the module multiplies products by; 1 / sqrt(dim) by default."""
    rows: Tensor | None = None
    """Which queries are compared, bool [batch, queries]; all of them by default."""


Family = Callable[[], Iterator[Compared]]
"""Makes the modules of a family with random weights, calls them, and gives what is compared."""


@cache
def example(group: str, file: str, name: str) -> maskdsl.Pattern:
    """A pattern of the examples."""
    return maskdsl.load(f"examples/{group}/{file}.attn")[name]


def stirred(module: Any) -> Any:
    """A module with weights so large that scores differ by about 1: small ones would hide what a pattern leaves out."""
    for each in module.parameters():
        if each.dim() > 1:
            torch.nn.init.normal_(each, 0.0, 0.2)
        else:
            torch.nn.init.normal_(each, float(each.detach().mean()), 0.2)
    module.float().eval()
    return module


def compare(compared: Compared) -> None:
    """Results, and gradients, each through its own graph."""
    q = compared.q if compared.scale is None else compared.q * (compared.scale * compared.q.shape[-1] ** 0.5)
    found = compared.mask.compile()(q, compared.k, compared.v, **compared.inputs)
    leaves = compared.leaves
    ours, theirs = ((x if compared.rows is None else _rows(x, compared.rows)) for x in (found, compared.out))
    close(ours, theirs)
    direction = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(7), dtype=theirs.dtype)
    wanted = torch.autograd.grad(theirs, leaves, direction, retain_graph=True)
    for each, expected in zip(torch.autograd.grad(ours, leaves, direction, retain_graph=True), wanted, strict=True):
        assert expected.abs().max() > 0
        close(each, expected)


def _rows(x: Tensor, rows: Tensor) -> Tensor:
    return x.transpose(1, 2)[rows.expand(x.shape[0], -1)]


def close(found: Tensor, expected: Tensor) -> None:
    """Relative to the largest number: softmaxes of modules are often in float32."""
    size = max(1.0, float(expected.detach().abs().max()))
    torch.testing.assert_close(found.to(expected.dtype), expected, rtol=1e-4, atol=2e-6 * size)

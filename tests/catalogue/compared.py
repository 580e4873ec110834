"""Holds patterns of the examples against what their sources compute.

A source is a function in `tests/catalogue/sources`, ported from released code, or a call of a library's own module. The
first line of its docstring stands in the example as well (`Released code: ...`), and a test holds the two together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import maskdsl

EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Row:
    """A pattern of the catalogue at one setting."""

    file: str
    """`vision/cswin`, below `examples` and without its ending."""
    pattern: str
    values: Mapping[str, Any]
    """Its parameters."""
    source: Callable[..., Any]
    """What it is compared with: a function, or one that some of its parameters are given to, by `partial`."""
    heads: int = 1
    key_heads: int | None = None
    """As many as heads, if None."""

    def bound(self) -> maskdsl.Mask:
        pattern = maskdsl.load(EXAMPLES / f"{self.file}.attn")[self.pattern]
        return pattern.bind(heads=self.heads, key_heads=self.key_heads or self.heads, **self.values)

    @property
    def named(self) -> str:
        """The first line of its docstring: `Released code: repository, file, commit.`"""
        source = self.source.func if isinstance(self.source, partial) else self.source
        assert source.__doc__ is not None
        return source.__doc__.splitlines()[0]

    def __str__(self) -> str:
        return f"{self.pattern}-{'-'.join(map(str, self.values.values()))}"


@dataclass(frozen=True)
class Attends(Row):
    """A relation. `source(heads, **values, **inputs)` gives it as bools [heads, queries, keys], or [queries, keys]."""

    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)

    def check(self) -> None:
        """Every pair of every head."""
        mask = self.bound()
        dense = [mask.dense(head=head, **self.inputs) for head in range(self.heads)]
        expected = np.asarray(self.source(self.heads, **self.values, **self.inputs))
        np.testing.assert_array_equal(np.stack(dense), np.broadcast_to(expected, (self.heads, *expected.shape[-2:])))


@dataclass(frozen=True)
class Computes(Row):
    """An attention. `source(q, k, v, **inputs)` gives its output in float64, [batch, heads, queries, dim]."""

    inputs: Mapping[str, tuple[int, ...] | Tensor] = field(default_factory=dict)
    """Shapes of random floats, that get gradients; or tensors of integers and bools."""
    batch: int = 2
    dim: int = 8
    room: float = 1e-9
    """The tolerance: more where a library computes in float32."""
    given: Callable[..., Mapping[str, Tensor]] = dict
    """From q, k, v and inputs by name to what the pattern is given: what a model does to them before its scores."""

    def check(self, backend: str) -> None:
        """The output, and the gradients of q, k, v and of all inputs of floats."""
        mask = self.bound()
        generator = torch.Generator().manual_seed(3)

        def leaf(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

        q = leaf(self.batch, self.heads, mask.given_query_length, self.dim)
        k, v = (leaf(self.batch, self.key_heads or self.heads, mask.given_key_length, self.dim) for _ in "kv")
        inputs = {name: each if isinstance(each, Tensor) else leaf(*each) for name, each in self.inputs.items()}
        leaves = {"q": q, "k": k, "v": v} | {name: each for name, each in inputs.items() if each.requires_grad}
        results = []
        attention = mask.compile(backend)
        for compute in (lambda **given: attention(**self.given(**given)), self.source):
            out = compute(q=q, k=k, v=v, **inputs)
            grads = torch.autograd.grad(out.sin().sum(), [*leaves.values()], allow_unused=True, materialize_grads=True)
            results.append((out, *grads))
        for name, found, wanted in zip(("out", *leaves), *results, strict=True):
            say = f"{name} of {self}: {{}}".format
            torch.testing.assert_close(found, wanted, atol=self.room, rtol=self.room, msg=say)


@dataclass(frozen=True)
class Selects(Row):
    """A relation that q and k decide. `source(q, k, **values, **inputs)` gives it for one batch entry.

    q is [heads, queries, dim] and k [key heads, keys, dim], float64; the result bool [heads, queries, keys].
    """

    inputs: Mapping[str, tuple[int, ...] | np.ndarray] = field(default_factory=dict)
    """Shapes of random floats; or arrays of whatever is given. With the batch dimension, where they have one."""
    batched: frozenset[str] = frozenset()
    """The inputs that have a batch dimension, which a source is given an entry of."""
    batch: int = 2
    dim: int = 16
    scale: float = 1.0
    """What random queries and keys are multiplied by."""
    softmax_scale: float | None = None
    """What products are multiplied by, if not 1 / sqrt(dim)."""
    normalized: bool = False
    """Whether queries and keys have length 1 before they are multiplied by `scale`."""
    given: Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]] | None = None
    """From q and k of all batch entries to more inputs: what a model finds before, and a source by itself."""

    def tensors(
        self, mask: maskdsl.Mask, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """q, k, v and the inputs of a call."""
        random = np.random.default_rng(seed)
        q = random.normal(size=(self.batch, self.heads, mask.given_query_length, self.dim))
        sides = (2, self.batch, self.key_heads or self.heads, mask.given_key_length, self.dim)
        k, v = random.normal(size=sides)
        if self.normalized:
            q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
        q, k, v = (x * self.scale for x in (q, k, v))
        inputs = {
            name: random.normal(size=each) if isinstance(each, tuple) else each for name, each in self.inputs.items()
        }
        return q, k, v, inputs | dict(self.given(q, k) if self.given else {})

    def expected(self, q: np.ndarray, k: np.ndarray, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """bool [batch, heads, queries, keys]."""
        entries = []
        for entry in range(self.batch):
            own = {name: inputs[name][entry] if name in self.batched else inputs[name] for name in self.inputs}
            entries.append(self.source(q[entry], k[entry], **self.values, **own))
        return np.stack(entries)

    def check(self) -> None:
        """Every pair of every head, for three draws of queries and keys."""
        mask = self.bound()
        for seed in range(3):
            q, k, _, inputs = self.tensors(mask, seed)
            wanted = self.expected(q, k, inputs)
            for entry, head in np.ndindex(wanted.shape[:2]):
                found = mask.dense(head=head, batch=entry, q=q, k=k, **inputs)
                np.testing.assert_array_equal(found, wanted[entry, head], f"{self}, batch {entry}, head {head}")

    def check_outputs(self, backend: str) -> None:
        """The output of a call, and the gradients of q, k and v, against dense attention over the source's pairs."""
        mask = self.bound()
        q, k, v, inputs = self.tensors(mask, 7)
        attends = torch.as_tensor(self.expected(q, k, inputs))
        leaves = [torch.as_tensor(each).requires_grad_() for each in (q, k, v)]
        given = {name: torch.as_tensor(each) for name, each in inputs.items()}
        attention = mask.compile(backend)
        results = []
        for out in attention(*leaves, **given), _over_pairs(*leaves, attends, self.softmax_scale or self.dim**-0.5):
            results.append((out, *torch.autograd.grad(out.sin().sum(), leaves)))
        for found, wanted in zip(*results, strict=True):
            torch.testing.assert_close(found, wanted, atol=1e-9, rtol=1e-9)


def _over_pairs(q: Tensor, k: Tensor, v: Tensor, attends: Tensor, scale: float) -> Tensor:
    """Dense attention over these pairs; zeros for queries without any."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    score = (q @ k.transpose(-1, -2) * scale).masked_fill(~attends, -torch.inf)
    some = attends.any(dim=-1, keepdim=True)
    return torch.where(some, score.masked_fill(~some, 0).softmax(dim=-1), 0) @ v

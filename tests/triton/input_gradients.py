"""Run in a process of its own, with TRITON_INTERPRET=1: gradients of float inputs against meaning and reference.

Results are NaN before kernels run. Prints `agreed` at the end; any difference raises.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from triton.runtime.interpreter import interpreter_builder

import maskdsl
from maskdsl.ir.meaning.evaluate import attention
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.ir.ops import Type
from maskdsl.runtime.backends.available import usable_backends
from tests.triton.interpreted import poisoned

EXAMPLES = Path(__file__).parents[2] / "examples"
FILE = Path(__file__).with_name("inputs.attn")
SMALL = {"n": 41, "t": 2, "h": 8, "w": 8, "size": 4, "drafts": 9, "radius": 6, "span": 9}
SMALLER = {"outlook": {"h": 4, "w": 4, "size": 2}, "planes": {"h": 4, "w": 4, "size": 2}, "transnext": {"size": 3}}
SMALLER |= {"star": {"h": 3, "w": 3}}
"""Of patterns by name, in place of these."""
SLOW = ("outlook", "planes", "polyline", "star", "transnext", "local_biased", "transient_global_biased")
"""Patterns with many branches or tables, which take seconds: they wait for `whole`."""
TABLES = ("relative", "chained", "hidden")
"""Patterns with gradients that several programs add to."""
ROOM = {torch.float32: 2e-4, torch.float16: 1e-2}
"""The tolerance, relative to the largest number of a gradient."""


def masks() -> Iterator[maskdsl.Mask]:
    """The masks of `inputs.attn`, and of all examples with float inputs that get gradients."""
    for pattern in maskdsl.load(FILE).values():
        yield pattern.bind(heads=4)
    for file in sorted(EXAMPLES.rglob("*.attn")):
        for pattern in maskdsl.load(file).values():
            small = SMALL | SMALLER.get(pattern.name, {})
            mask = pattern.bind(heads=4, **{name: small[name] for name in pattern.parameters if name in small})
            deciding = relation_inputs(mask.ir)
            if any(each.type is Type.FLOAT and each.name not in deciding for each in mask.ir.given):
                yield mask


class Problem:
    """A mask with tensors, and all its gradients along a random direction."""

    def __init__(self, mask: maskdsl.Mask, key_heads: int, batch: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.mask, self.random = mask, random
        self.inputs = synthetic_inputs(mask.ir, seed, batch, 16)
        shapes = [(mask.heads, mask.query_length, 16), *[(key_heads, mask.given_key_length, 16)] * 2]
        self.q, self.k, self.v = (random.normal(size=(batch, *shape)) for shape in shapes)
        self.toward = random.normal(size=self.q.shape)
        rows = (batch, len(mask.branches), *self.q.shape[1:3]) if mask.branches else self.q.shape[:3]
        self.toward_lse = random.normal(size=rows)
        self.has_lse = mask.compile("reference").has_lse
        self.floats = [name for name, value in self.inputs.items() if value.dtype.kind == "f"]
        if (
            mask.ir.weight is not None or mask.ir.factor is not None
        ):  # exponentials of distances: within what float16 holds
            self.inputs |= {name: self.inputs[name] / 8 for name in self.floats}

    def gradients(self, backend: str, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Of q, k, v and all float inputs."""
        named = {"q": self.q, "k": self.k, "v": self.v}
        tensors = {name: torch.tensor(value, dtype=dtype) for name, value in named.items()}
        tensors |= {name: torch.tensor(self.inputs[name], dtype=dtype) for name in self.floats}
        given = {name: torch.tensor(value) for name, value in self.inputs.items() if name not in self.floats}
        for tensor in tensors.values():
            tensor.requires_grad_()
        found = self.mask.compile(backend)(**tensors, **given, return_lse=self.has_lse)
        out, *lse = found if self.has_lse else (found,)
        loss = (out * torch.tensor(self.toward)).sum()
        for each in lse:
            loss = loss + (each * torch.tensor(self.toward_lse))[each.isfinite()].sum()
        grads = torch.autograd.grad(loss, list(tensors.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(tensors, grads, strict=True))

    def loss(self, inputs: dict[str, np.ndarray]) -> float:
        """By the meaning."""
        out, lse = attention(self.mask.ir, self.q, self.k, self.v, inputs)
        of_lse = np.where(np.isfinite(lse), lse * self.toward_lse, 0).sum() if self.has_lse else 0.0
        return float((out * self.toward).sum() + of_lse)


def check_values(problem: Problem) -> None:
    """Compares with the reference, and each input with finite differences of the meaning."""
    found, expected = problem.gradients("triton"), problem.gradients("reference")
    for name, other in expected.items():
        torch.testing.assert_close(
            found[name], other, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )
    step = 1e-5
    for name in set(problem.floats) - relation_inputs(problem.mask.ir):
        values = problem.inputs[name]
        direction = problem.random.normal(size=values.shape)
        ends = [problem.loss(problem.inputs | {name: values + sign * step * direction}) for sign in (1, -1)]
        difference, derivative = (ends[0] - ends[1]) / (2 * step), float((found[name] * torch.tensor(direction)).sum())
        assert abs(derivative - difference) <= 1e-6 * max(1.0, abs(difference)), (problem.mask, name, difference)


def check_types(problem: Problem, single: dict[str, Tensor]) -> None:
    """Gradients have the dtype of their inputs, and its precision."""
    expected = problem.gradients("reference")
    for dtype, found in ((torch.float32, single), (torch.float16, problem.gradients("triton", torch.float16))):
        for name, gradient in found.items():
            assert gradient.dtype == dtype
            largest = max(1.0, float(expected[name].abs().max()))
            torch.testing.assert_close(gradient.double(), expected[name], rtol=0, atol=ROOM[dtype] * largest)


def check_bits(problem: Problem, single: dict[str, Tensor]) -> None:
    """Programs run in reverse order: all gradients have the same bits."""
    forward = interpreter_builder.set_grid_idx

    def backward(x: int, y: int, z: int) -> None:
        forward(interpreter_builder.grid_dim[0] - 1 - x, y, z)

    interpreter_builder.set_grid_idx = backward
    found = problem.gradients("triton", torch.float32)
    interpreter_builder.set_grid_idx = forward
    assert all(torch.equal(found[name], single[name]) for name in single)


def check_poison(problem: Problem) -> None:
    """NaN in inputs that no attending pair of `hidden` reads changes no gradient."""
    expected = problem.gradients("reference")
    problem.inputs["worth"][25:] = problem.inputs["need"][:, [*range(7), *range(36, 41)]] = np.nan
    problem.inputs["bias"][:, 40 + 12 :] = problem.inputs["bias"][:, : 40 + 7 - 24] = np.nan
    for name, found in problem.gradients("triton").items():
        torch.testing.assert_close(found, expected[name], rtol=1e-9, atol=1e-9)


def check_nan(problem: Problem) -> None:
    """A non-finite value that some query attends makes the gradient of a table NaN."""
    for value in (np.nan, np.inf):
        problem.v[0, 0, 3, 5] = value
        assert problem.gradients("triton")["bias"].isnan().all()


def check_alone(problem: Problem) -> None:
    """Gradients of one input at a time, the others not wanted."""
    q, k, v = (torch.tensor(each) for each in (problem.q, problem.k, problem.v))
    inputs = {name: torch.tensor(value) for name, value in problem.inputs.items()}
    expected = problem.gradients("reference")
    for name in problem.floats:
        inputs[name].requires_grad_()
        out, lse = problem.mask.compile("triton")(q, k, v, **inputs, return_lse=True)
        loss = (out * torch.tensor(problem.toward)).sum()
        loss = loss + (lse * torch.tensor(problem.toward_lse))[lse.isfinite()].sum()
        (found,) = torch.autograd.grad(loss, inputs[name])
        torch.testing.assert_close(found, expected[name], rtol=1e-9, atol=1e-9)
        inputs[name].requires_grad_(False)


def main(part: int, parts: int, whole: bool) -> None:
    """Values of every mask; dtypes of every second one, and bits of those with tables; with `whole` all of all."""
    assert "triton" in usable_backends()
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    for seed, mask in list(enumerate(masks()))[part::parts]:
        if mask.ir.name in SLOW and not whole:
            continue
        problem = Problem(mask, (4, 2, 1)[seed % 3], 2, seed)
        check_values(problem)
        if whole or seed % 2 or mask.ir.name in TABLES:
            single = problem.gradients("triton", torch.float32)
            check_types(problem, single)
            if whole or mask.ir.name in TABLES:
                check_bits(problem, single)
        if mask.ir.name == "hidden":
            check_alone(problem)
            check_poison(problem)
            check_nan(problem)
    print("agreed")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), "whole" in sys.argv)

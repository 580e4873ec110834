"""Run in a process of its own, with TRITON_INTERPRET=1: gradients of float inputs, against meaning and reference.

Results are filled with NaN before kernels run. Prints `agreed` at the end; whatever differs raises.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from triton.runtime.interpreter import interpreter_builder

import maskdsl
from maskdsl.ir.evaluate import attention
from maskdsl.ir.inputs import relation_inputs
from maskdsl.runtime.backends import usable_backends
from maskdsl.synthetic import synthetic_inputs
from tests.triton.interpreted import poisoned

EXAMPLES = Path(__file__).parents[2] / "examples"
LENGTH = 41
TEXT = """
pattern relative(h = 5, w = 7) {
    space image[y = h, x = w]
    input bias: float[heads, 2 * h - 1, 2 * w - 1]
    attend window((3, 5))
    score s + bias[head, q.y - k.y + h - 1, q.x - k.x + w - 1]
}
pattern slopes(n = 41) {
    space tokens[n]
    input slope: float[heads]
    input shift: float[1]
    attend causal
    score s - slope[head] * float(q - k)
    score 20.0 * tanh(s / 20.0) + shift[0] * float(q % 3)
}
pattern gates(n = 41) {
    space tokens[n]
    input gate: float[tokens, heads, batch]
    input own: float[batch, tokens]
    input cluster: int[batch, tokens]
    attend same(cluster) and (k - q) % 3 < 2
    score s + q.gate * k.gate - q.own
    weight sigmoid(k.own)
    order by cluster
}
pattern scaled(n = 41) {
    space tokens[n]
    input width: float[heads, tokens]
    input unit: float[4]
    attend window(9)
    score s * k.width + exp(q.width)
    scale 0.3 * unit[head] + 0.1 * k.width
}
pattern weighed(n = 41) {
    space tokens[n]
    input table: float[heads, 7]
    input near: float[n]
    attend q >= k
    weight table[head, q % 7] * near[k] + sigmoid(near[q - k])
}
pattern chained(n = 41) {
    space tokens[n]
    input bias: float[heads, 2 * n - 1]
    input cap: float[batch, heads]
    attend causal or k < 3
    score s + bias[head, q - k + n - 1] * cap[batch, head]
    score cap[batch, head] * tanh(s / cap[batch, head])
    score s + bias[head, q - k + n - 1] - bias[0, k] if q % 2 == 0 else s * abs(bias[head, q])
}
pattern nobody(n = 41) {
    space tokens[n]
    input bias: float[n]
    input gate: float[tokens]
    attend q > 11 and k > q and k.gate < 0.5
    score s + bias[k - q] * k.gate
}
pattern alone(n = 1) {
    space tokens[n]
    input bias: float[2]
    input gate: float[heads, tokens]
    attend q >= k
    score s + bias[q - k] * q.gate
    weight bias[1] + k.gate
}
pattern spaces(text = 7, h = 5, w = 6) {
    space words[text]
    space image[y = h, x = w]
    tokens words ++ image
    input place: float[heads, image]
    input gate: float[batch, tokens]
    input unused: float[3]
    attend words -> all
    attend image -> image where window((3, 3))
    score s + q.place - k.place * k.place if image -> image else s + k.gate
    order image by morton(y, x)
}
pattern crossed(targets = 19, h = 5, w = 6) {
    space target[targets]
    space image[y = h, x = w]
    queries target
    keys image
    input worth: float[batch, image]
    input need: float[heads, target]
    input table: float[targets, h]
    attend abs(q.i * 3 - k.i) < 9 or k.x == q % 6
    score s + k.worth * q.need + table[q.i, k.y]
    order image by snake(y, x)
    order target by target % 4
}
pattern replaced(n = 41) {
    space tokens[n]
    input bias: float[n]
    input gate: float[tokens]
    attend window(7)
    score s + bias[abs(q - k)] + q.gate
    score bias[q] * bias[k] + k.gate
}
"""
MODULE = maskdsl.parse(TEXT)
"""Tables with negative offsets, slopes of heads, gates of tokens, caps, scales, weights, empty rows and one token."""


def examples() -> list[maskdsl.Pattern]:
    """Those that have inputs of type float."""
    modules = [maskdsl.load(file) for file in sorted(EXAMPLES.rglob("*.attn"))]
    patterns = [module[name] for module in modules for name in module]
    return [each for each in patterns if any(declared.type == "float" for declared in bound(each, 1).ir.inputs)]


def bound(pattern: maskdsl.Pattern, heads: int) -> maskdsl.Mask:
    small = {"n": LENGTH, "h": 8, "w": 8, "size": 4}
    names = {parameter.name.id for parameter in pattern.declaration.parameters}
    own = {} if pattern.name in MODULE else {name: value for name, value in small.items() if name in names}
    return pattern.bind(heads=heads, **own)


class Problem:
    """A mask with tensors, and all its gradients along a random direction."""

    def __init__(self, mask: maskdsl.Mask, key_heads: int, batch: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.mask, self.random = mask, random
        self.inputs = synthetic_inputs(mask.ir, seed, batch)
        shapes = [(mask.heads, mask.query_length, 16), *[(key_heads, mask.key_length, 16)] * 2]
        self.q, self.k, self.v = (random.normal(size=(batch, *shape)) for shape in shapes)
        self.toward = random.normal(size=self.q.shape)
        self.toward_lse = random.normal(size=self.q.shape[:3])
        self.floats = [name for name, value in self.inputs.items() if value.dtype.kind == "f"]

    def gradients(self, backend: str, dtype: torch.dtype = torch.float64, layout: str = "declared") -> list[Tensor]:
        """Of q, k, v and all float inputs."""
        tensors = [torch.tensor(each, dtype=dtype).requires_grad_() for each in (self.q, self.k, self.v)]
        inputs = {name: torch.tensor(value) for name, value in self.inputs.items()}
        leaves = [inputs[name].to(dtype).requires_grad_() for name in self.floats]
        given = inputs | dict(zip(self.floats, leaves, strict=True))
        out, lse = self.mask.compile(backend)(*tensors, return_lse=True, layout=layout, **given)
        loss = (out * torch.tensor(self.toward, dtype=out.dtype)).sum()
        loss = loss + (lse * torch.tensor(self.toward_lse))[lse.isfinite()].sum()
        asked = [*tensors, *leaves]
        return list(torch.autograd.grad(loss, asked, allow_unused=True, materialize_grads=True))

    def loss(self, inputs: dict[str, np.ndarray]) -> float:
        """By the meaning."""
        out, lse = attention(self.mask.ir, self.q, self.k, self.v, inputs)
        return float((out * self.toward).sum() + np.where(np.isfinite(lse), lse * self.toward_lse, 0).sum())


def check_values(problem: Problem) -> None:
    """Against the reference, and against differences of the meaning, input by input."""
    found, expected = problem.gradients("triton"), problem.gradients("reference")
    for name, one, other in zip(("q", "k", "v", *problem.floats), found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    step, random = 1e-5, problem.random
    for name, gradient in zip(problem.floats, found[3:], strict=True):
        if name in relation_inputs(problem.mask.ir):
            continue
        values, direction = problem.inputs[name], random.normal(size=problem.inputs[name].shape)
        ends = [problem.loss(problem.inputs | {name: values + sign * step * direction}) for sign in (1, -1)]
        difference, slope = (ends[0] - ends[1]) / (2 * step), float((gradient * torch.tensor(direction)).sum())
        assert abs(slope - difference) <= 1e-6 * max(1.0, abs(difference)), (problem.mask, name, slope, difference)


def check_single(problem: Problem) -> None:
    """In float32, as far as its rounding goes."""
    for one, other in zip(problem.gradients("triton", torch.float32), problem.gradients("reference"), strict=True):
        assert one.dtype == torch.float32
        size = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one.double(), other, rtol=0, atol=2e-4 * size)


def check_bits(problem: Problem) -> None:
    """The last program first: all gradients have the same bits."""
    expected, forward = problem.gradients("triton", torch.float32), interpreter_builder.set_grid_idx

    def backward(x: int, y: int, z: int) -> None:
        forward(interpreter_builder.grid_dim[0] - 1 - x, y, z)

    interpreter_builder.set_grid_idx = backward
    found = problem.gradients("triton", torch.float32)
    interpreter_builder.set_grid_idx = forward
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def main(names: list[str]) -> None:
    assert "triton" in usable_backends()
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    patterns = [*(MODULE[name] for name in MODULE), *examples()]
    for seed, pattern in enumerate(patterns):
        if names and pattern.name not in names:
            continue
        print(pattern.name)
        problem = Problem(bound(pattern, 4), (4, 2, 1)[seed % 3], 2, seed)
        assert problem.floats
        check_values(problem)
        check_single(problem)
        check_bits(problem)
    print("agreed")


if __name__ == "__main__":
    main(sys.argv[1:])

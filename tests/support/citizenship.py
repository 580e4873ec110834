"""Attentions with tensors for them, and what torch asks of its operators."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl import AttnError

LENGTH, HEADS = 40, 2
LINES = {
    "static": "attend causal and backward(16)",
    "ordered": "input document: int[batch, t] attend causal and same(document) order by document",
    "sloped": "input slope: float[heads] input shift: float[batch, t]"
    " attend causal score s - slope[head] * (q - k) + q.shift weight 1 + k.shift ** 2",
    "turned": "input shift: float[t, batch, heads] attend causal score s + k.shift",
    "constant": "attend causal score 0.5",
    "numbered": "attend causal where random(3, batch, q, k) % 2 == 0 attend all -> all where q == k",
}


def mask_of(name: str) -> maskdsl.Mask:
    return maskdsl.parse(f"pattern p(n) {{ space t[n] {LINES[name]} }}")["p"].bind(n=LENGTH, heads=HEADS)


@dataclass
class Case:
    """An attention with tensors for it: heads share keys, and values have a dim of their own."""

    attention: maskdsl.Attention
    tensors: list[Tensor]
    inputs: dict[str, Tensor]

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.tensors, *(x for x in self.inputs.values() if x.requires_grad)]

    def loss(self, q: Tensor, k: Tensor, v: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        out, lse = self.attention(q, k, v, return_lse=True, **inputs)
        return out.sin().sum() + lse.cos().sum()

    def gradients(self) -> tuple[Tensor, ...]:
        return torch.autograd.grad(self.loss(*self.tensors, self.inputs), self.leaves)


def case_of(name: str, backend: str = "tiled", batch: int = 3) -> Case:
    torch.manual_seed(0)
    mask = mask_of(name)
    shapes = [(batch, heads, LENGTH, dim) for heads, dim in ((HEADS, 8), (1, 8), (1, 6))]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    inputs = {}
    for each in mask.inputs:
        sizes = [batch if dimension.size is None else dimension.size for dimension in each.dimensions]
        real = torch.randn(sizes, dtype=torch.float64)
        inputs[each.name] = real.requires_grad_() if str(each.type) == "float" else torch.randint(0, 3, sizes)
    return Case(mask.compile(backend), tensors, inputs)


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """But for the order in which threads add up the gradients of inputs."""
    torch.testing.assert_close([*found], [*expected], rtol=1e-12, atol=1e-12)


def check_opcheck(name: str, backend: str) -> None:
    case = case_of(name, backend)
    handle, inputs = case.attention._compiled.handle, [*case.inputs.values()]
    for wants_lse in (True, False):
        arguments = *case.tensors, inputs, handle, "declared", wants_lse
        torch.library.opcheck(torch.ops.maskdsl.attention.default, arguments)
    with torch.no_grad():
        out, lse = torch.ops.maskdsl.attention(*case.tensors, inputs, handle, "declared", True)
    needs = [True, False, True, *(x.is_floating_point() for x in inputs)]
    arguments = *case.tensors, out, lse, torch.randn_like(out), torch.randn_like(lse), inputs, handle, "declared", needs
    detached = [each.detach() if isinstance(each, Tensor) else each for each in arguments]
    checks = "test_schema", "test_autograd_registration", "test_faketensor"
    torch.library.opcheck(torch.ops.maskdsl.attention_backward.default, detached, test_utils=checks)


def check_compiled_whole_and_equal(name: str, backend: str) -> None:
    case = case_of(name, backend)
    expected = case.gradients()
    loss = torch.compile(case.loss, fullgraph=True, backend="aot_eager")(*case.tensors, case.inputs)
    assert_same(torch.autograd.grad(loss, case.leaves), expected)


def check_func_grad(name: str, backend: str) -> None:
    case = case_of(name, backend)
    tensors, inputs = [x.detach() for x in case.tensors], {name: x.detach() for name, x in case.inputs.items()}
    floats = {name: x for name, x in inputs.items() if x.is_floating_point()}

    def gradients(q: Tensor, k: Tensor, v: Tensor, floats: dict[str, Tensor]) -> tuple[Tensor, ...]:
        loss = torch.func.grad(lambda q, k, v, f: case.loss(q, k, v, inputs | f), argnums=(0, 1, 2, 3))
        *grads, others = loss(q, k, v, floats)
        return *grads, *others.values()

    assert_same(gradients(*tensors, floats), case.gradients())
    compiled = torch.compile(gradients, fullgraph=True, backend="aot_eager")
    assert_same(compiled(*tensors, floats), case.gradients())


def check_vmap(name: str, backend: str) -> None:
    """Over any axis of everything; results and gradients of each entry, also of what has no batch dimension."""
    cases = [case_of(name, backend) for _ in range(3)]
    for number, case in enumerate(cases):
        case.tensors = [x.detach() * (number + 1) for x in case.tensors]
        case.inputs = {name: x.detach().roll(number, -1) for name, x in case.inputs.items()}
    call = cases[0]
    floats = [name for name, x in call.inputs.items() if x.is_floating_point()]

    def whole(q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        def loss(q: Tensor, k: Tensor, v: Tensor, some: dict[str, Tensor]) -> Tensor:
            return call.loss(q, k, v, inputs | some)

        some = {name: inputs[name] for name in floats}
        *grads, others = torch.func.grad(loss, argnums=(0, 1, 2, 3))(q, k, v, some)
        return call.attention(q, k, v, **inputs), *grads, *others.values()

    stacked = [torch.stack(each, 2) for each in zip(*(case.tensors for case in cases), strict=True)]
    inputs = {name: torch.stack([case.inputs[name] for case in cases], -1) for name in call.inputs}
    axes = (2, 2, 2, dict.fromkeys(inputs, -1))
    found = torch.vmap(whole, in_dims=axes)(*stacked, inputs)
    for number, case in enumerate(cases):
        expected = whole(*case.tensors, case.inputs)
        torch.testing.assert_close(tuple(x[number] for x in found), expected, rtol=1e-12, atol=1e-12)


def check_no_second_derivatives(backend: str) -> None:
    case = case_of("sloped", backend)
    first = torch.autograd.grad(case.loss(*case.tensors, case.inputs), case.tensors, create_graph=True)
    assert_same(first, case.gradients()[:3])
    with pytest.raises(AttnError, match=r"E428.*no second derivatives"):
        torch.autograd.grad(first[0].sum(), case.tensors[0])

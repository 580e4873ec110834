"""Calls of a part and packed sequences, as operators: one node of a graph, with gradients."""

from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import maskdsl
from maskdsl import AttnError
from maskdsl.runtime.decode import decode_call
from maskdsl.runtime.routing import find_op
from maskdsl.runtime.torch_ops import attention_op

LENGTH, HEADS = 24, 4
TEXT = """
pattern sloped(n = 24) {
    space tokens[n]
    input slope: float[heads]
    attend causal and backward(9)
    score s - slope[head] * float(q - k)
}
pattern local(n = 24) {
    space tokens[n]
    attend causal and backward(9)
}
"""
MODULE = maskdsl.parse(TEXT)
STARTS, COUNTS = torch.tensor([3, 10]), torch.tensor([15, 22])


def sloped() -> maskdsl.Attention:
    return MODULE["sloped"].bind(heads=HEADS).compile()


def leaves_of(part: bool) -> list[Tensor]:
    """q, k, v and slopes: of 12 queries of two sequences, or of packed ones."""
    torch.manual_seed(0)
    shapes = [(2, HEADS, 12, 8), (2, 2, LENGTH, 8), (2, 2, LENGTH, 6)] if part else [(40, n, 8) for n in (HEADS, 2, 2)]
    return [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in (*shapes, (HEADS,))]


def part_of(attention: maskdsl.Attention) -> Callable[..., Tensor]:
    def call(q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> Tensor:
        out, lse = attention(q, k, v, query_start=STARTS, key_lengths=COUNTS, return_lse=True, slope=slope)
        return out.sin().sum() + lse.cos().sum()

    return call


def test_parts_are_compiled_whole() -> None:
    call, leaves = part_of(sloped()), leaves_of(True)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    found = torch.autograd.grad(compiled(*leaves), leaves)
    torch.testing.assert_close(found, torch.autograd.grad(call(*leaves), leaves), rtol=0, atol=0)


def test_packed_sequences_are_one_graph() -> None:
    attention, leaves = sloped(), leaves_of(False)

    def call(q: Tensor, k: Tensor, v: Tensor, slope: Tensor, ends: Tensor) -> Tensor:
        out, lse = attention.varlen(q, k, v, ends, return_lse=True, slope=slope)
        return out.sin().sum() + lse.cos().sum()

    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(call, fullgraph=True, backend=counter)
    for second in (20, 17, 24):
        ends = torch.tensor([0, second, 40])
        found = torch.autograd.grad(compiled(*leaves, ends), leaves)
        torch.testing.assert_close(found, torch.autograd.grad(call(*leaves, ends), leaves), rtol=0, atol=0)
    assert counter.frame_count == 1
    with pytest.raises(AttnError, match="E440"):
        compiled(*leaves, torch.tensor([0, 39, 12]))


def test_lengths_of_packed_sequences_change_without_compiling_anew() -> None:
    attention = maskdsl.parse("pattern p(n) { space t[n] attend causal and backward(5) }")["p"].compile(heads=HEADS)
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(attention.varlen, fullgraph=True, dynamic=True, backend=counter)
    for ends in ([0, 20, 33], [0, 3, 50], [0, 7, 9]):
        q, k, v = torch.randn(3, ends[-1], HEADS, 8)
        assert torch.equal(compiled(q, k, v, torch.tensor(ends)), attention.varlen(q, k, v, torch.tensor(ends)))
    assert counter.frame_count == 1


def test_decoding_by_number_is_one_graph() -> None:
    attention = MODULE["local"].bind(heads=HEADS).compile()
    counter = CompileCounterWithBackend("aot_eager")
    q, k, v = torch.randn(2, HEADS, 1, 8), *torch.randn(2, 2, 2, LENGTH, 8)

    def call(number: int) -> Tensor:
        return attention(q, k, v, query_start=number)

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend=counter)
    for number in range(2, LENGTH):
        assert torch.equal(compiled(number), call(number))
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", ["chunk", "packed"])
def test_opcheck(name: str) -> None:
    *tensors, slope = leaves_of(name == "chunk")
    if name == "packed":
        tensors = [x.detach().transpose(0, 1)[None].contiguous().requires_grad_() for x in tensors]
    ends = torch.tensor([0, 20, 40])
    positions = [STARTS, COUNTS, None] if name == "chunk" else [ends, ends, None]
    operator = getattr(torch.ops.maskdsl, name).default
    torch.library.opcheck(operator, (*tensors, [slope], positions, None, sloped()._compiled.handle))


def test_transforms_of_parts() -> None:
    call, leaves = part_of(sloped()), leaves_of(True)
    expected = torch.autograd.grad(call(*leaves), leaves)
    plain = [x.detach() for x in leaves]
    gradients = torch.func.grad(call, argnums=(0, 1, 2, 3))
    torch.testing.assert_close(gradients(*plain), expected, rtol=0, atol=0)
    many = [torch.stack([2 * x, x], dim=-1) for x in plain]
    found = torch.vmap(gradients, in_dims=-1)(*many)
    torch.testing.assert_close(tuple(x[1] for x in found), expected, rtol=0, atol=0)
    values = torch.vmap(call, in_dims=-1)(*many)  # without gradients it is another operator
    torch.testing.assert_close(values[1], call(*plain))
    first = torch.autograd.grad(call(*leaves), leaves, create_graph=True)
    with pytest.raises(AttnError, match="E428"):
        torch.autograd.grad(first[0].sum(), leaves[0])


def test_no_inputs_may_be_none() -> None:
    """As they are when a compiled program calls from C++."""
    handle = MODULE["local"].bind(heads=HEADS).compile()._compiled.handle
    q, k, v = torch.randn(2, HEADS, LENGTH, 8), *torch.randn(2, 2, 2, LENGTH, 8)
    where = STARTS * 0, None, None, None
    routed = "pattern p(n = 24) { space t[n] route best = topk(2, dot(q, k)) where k <= q attend best }"
    finder = maskdsl.parse(routed)["p"].bind(heads=HEADS).compile()._compiled.handle
    out, lse = attention_op.attention(q, k, v, None, handle, "declared", True)
    saved = q, k, v, out, lse, out, lse
    keys = torch._C._dispatch_keys(q)
    calls: list[tuple[Callable[[Any], Any], Any]] = [
        (lambda inputs: attention_op.recorded_attention(keys, q, k, v, inputs, handle, "declared", True), []),
        (lambda inputs: attention_op.recorded_attention_backward(*saved, inputs, handle, "declared", [True] * 3), []),
        (lambda inputs: attention_op.attention_backward(*saved, inputs, handle, "declared", [True] * 3), []),
        (lambda inputs: decode_call.decode(q, k, v, inputs, *where, handle), []),
        (lambda inputs: find_op.find(q, k, inputs, finder), []),
        (lambda inputs: find_op.find_in_partial_call(q, k, inputs, *where, finder), []),
    ]
    for call, nothing in calls:
        torch.testing.assert_close(call(None), call(nothing), rtol=0, atol=0)


@pytest.mark.long
@pytest.mark.skipif(not any(map(which, ("g++", "c++", "clang++"))), reason="inductor needs a C++ compiler")
def test_packages_of_exported_programs_run(tmp_path: Path) -> None:
    class Layer(torch.nn.Module):
        attention = MODULE["local"].bind(heads=HEADS).compile()

        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return 2 * self.attention(q, k, v) + self.attention(q, k, v, query_start=0)

    tensors = torch.randn(1, HEADS, LENGTH, 8), *torch.randn(2, 1, 2, LENGTH, 8)
    with torch.no_grad():
        exported = torch.export.export(Layer(), tensors)
        package = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "layer.pt2"))
        torch.testing.assert_close(torch._inductor.aoti_load_package(package)(*tensors), Layer()(*tensors))

"""Attention as torch's other operators are: traced, compiled, exported, transformed, copied."""

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from shutil import which

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils.checkpoint import checkpoint

import maskdsl
from maskdsl import AttnError
from maskdsl.runtime.backends.available import usable_backends
from tests.support.citizenship import (
    HEADS,
    LENGTH,
    LINES,
    assert_same,
    case_of,
    check_compiled_whole_and_equal,
    check_func_grad,
    check_no_second_derivatives,
    check_opcheck,
    check_vmap,
    mask_of,
)

BACKENDS = usable_backends()


class Layer(torch.nn.Module):
    def __init__(self, attention: maskdsl.Attention) -> None:
        super().__init__()
        self.project = torch.nn.Linear(8, 8, dtype=torch.float64)
        self.attention = attention

    def forward(self, q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        return self.attention(self.project(q), k, v, **inputs)


def every_case(function: Callable[..., None]) -> Callable[..., None]:
    cases = pytest.mark.parametrize("backend", BACKENDS)(pytest.mark.parametrize("name", LINES)(function))
    return pytest.mark.thinned(3, "backend", "name")(cases)


@every_case
def test_opcheck(name: str, backend: str) -> None:
    check_opcheck(name, backend)


@every_case
def test_shapes_on_the_meta_device(name: str, backend: str) -> None:
    """Of results and of gradients, where no tensor has data."""
    case = case_of(name, backend)
    tensors = [x.detach().to("meta").requires_grad_() for x in case.tensors]
    inputs = {each: x.detach().to("meta").requires_grad_(x.requires_grad) for each, x in case.inputs.items()}
    leaves = [*tensors, *(x for x in inputs.values() if x.requires_grad)]
    grads = torch.autograd.grad(case.loss(*tensors, inputs), leaves)
    assert [x.shape for x in grads] == [x.shape for x in leaves] and all(x.is_meta for x in grads)
    out = case.attention(*(x.detach()[:, :, 7:8] for x in tensors[:1]), *tensors[1:], query_start=7, **inputs)
    assert out.is_meta and out.shape == (3, HEADS, 1, 6)


@every_case
def test_compiled_whole_and_equal(name: str, backend: str) -> None:
    check_compiled_whole_and_equal(name, backend)


@pytest.mark.skipif(not any(map(which, ("g++", "c++", "clang++"))), reason="inductor needs a C++ compiler")
def test_compiled_by_inductor() -> None:
    case = case_of("sloped")
    expected = case.gradients()
    loss = torch.compile(case.loss, fullgraph=True)(*case.tensors, case.inputs)
    torch.testing.assert_close(torch.autograd.grad(loss, case.leaves), expected)


def test_options_are_compiled_too() -> None:
    case = case_of("ordered")
    document = case.inputs["document"].tolist()
    q, k, v = (x.detach() for x in case.tensors)

    def both(q: Tensor) -> tuple[Tensor, ...]:
        out = case.attention(q, k, v, document=document, layout="ordered")
        return out, *case.attention(q, k, v, document=document, return_lse=True)

    assert_same(torch.compile(both, fullgraph=True, backend="eager")(q), both(q))


def test_batches_change_without_compiling_anew() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    case = case_of("ordered")
    compiled = torch.compile(case.loss, fullgraph=True, dynamic=True, backend=counter)
    for batch in (3, 4, 7):
        other = case_of("ordered", batch=batch)
        assert torch.equal(compiled(*other.tensors, other.inputs), case.loss(*other.tensors, other.inputs))
    assert counter.frame_count == 1


@pytest.mark.parametrize("name", LINES)
def test_exported_and_loaded(name: str) -> None:
    case = case_of(name)
    layer, arguments = Layer(case.attention), (*(x.detach() for x in case.tensors), {})
    arguments[3].update({name: x.detach() for name, x in case.inputs.items()})
    exported = torch.export.export(layer, arguments)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    for program in (exported, torch.export.load(file)):
        assert torch.equal(program.module()(*arguments), layer(*arguments))


def test_exported_programs_outlive_the_attention() -> None:
    case = case_of("static")
    arguments = (*(x.detach() for x in case.tensors), {})
    layer = Layer(case.attention)
    expected, exported = layer(*arguments), torch.export.export(layer, arguments)
    del case, layer
    assert torch.equal(exported.module()(*arguments), expected)


def test_unknown_handles() -> None:
    q = torch.randn(1, 1, 4, 8)
    with pytest.raises(AttnError, match=r"E427.*not compiled the pattern of the operator `0123`"):
        torch.ops.maskdsl.attention(q, q, q, [], "0123", "declared", False)


@every_case
def test_func_grad(name: str, backend: str) -> None:
    check_func_grad(name, backend)


@pytest.mark.parametrize("name", LINES)
def test_vmap(name: str) -> None:
    check_vmap(name, "tiled")


@pytest.mark.parametrize("name", LINES)
def test_gradients_of_vmap(name: str) -> None:
    """What all entries share gets the sum of their gradients."""
    case = case_of(name)
    q, *others = case.tensors
    many = torch.stack([q.detach(), 2 * q.detach()]).requires_grad_()
    leaves = [many, *others, *case.leaves[3:]]
    loss = torch.vmap(lambda q: case.loss(q, *others, case.inputs))(many).sum()
    expected = case.loss(many[0], *others, case.inputs) + case.loss(many[1], *others, case.inputs)
    found = torch.autograd.grad(loss, leaves)
    torch.testing.assert_close(found, torch.autograd.grad(expected, leaves), rtol=1e-12, atol=1e-12)


def test_two_passes_in_transforms() -> None:
    """Which look at values on the host, where there are some to look at."""
    text = """pattern p(n) {
        space t[n]
        input bias: float[4]  input place: int[t]
        coord chunk = i // 8
        route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
        attend causal and (past or same(chunk))
        score s + bias[k.place]
    }"""
    attention = maskdsl.parse(text)["p"].bind(n=LENGTH, heads=HEADS).compile()

    def whole(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, position: Tensor) -> tuple[Tensor, ...]:
        def loss(*leaves: Tensor) -> Tensor:
            return attention(*leaves[:3], bias=leaves[3], place=position).sin().sum()

        return *attention(q, k, v, return_lse=True, bias=bias, place=position), *torch.func.grad(loss, (0, 1, 2, 3))(
            q, k, v, bias
        )

    stacked = *torch.randn(3, 2, 1, HEADS, LENGTH, 8).double(), torch.randn(2, 4).double()
    positions = torch.randint(0, 4, (2, LENGTH))
    found = torch.vmap(whole)(*stacked, positions)
    for number in range(2):
        expected = whole(*(x[number] for x in stacked), positions[number])
        torch.testing.assert_close(tuple(x[number] for x in found), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(reentrant: bool) -> None:
    case = case_of("sloped")
    loss = checkpoint(case.loss, *case.tensors, case.inputs, use_reentrant=reentrant)
    expected = case.gradients()
    loss.backward()  # which reentrant checkpoints need; they see only the tensors among their arguments
    count = 3 if reentrant else len(expected)
    assert_same([x.grad for x in case.leaves[:count]], expected[:count])


@pytest.mark.parametrize("packed", [True, False])
def test_checkpoint_of_a_part(packed: bool) -> None:
    attention = mask_of("static").compile()
    shape, where = ((30, HEADS, 8), {"cu_seqlens_q": torch.tensor([0, 7, 30])})
    if not packed:
        shape, where = ((2, HEADS, 30, 8), {"query_start": torch.zeros(2, dtype=torch.int64)})
    q, k, v = (torch.randn(shape, requires_grad=True) for _ in "qkv")
    function = partial(attention.varlen if packed else attention, **where)
    found, expected = (
        torch.autograd.grad(out.sin().sum(), (q, k, v))
        for out in (checkpoint(function, q, k, v, use_reentrant=False), function(q, k, v))
    )
    assert_same(found, expected)


def test_compiled_under_autocast() -> None:
    case = case_of("static")
    q, k, v = (x.detach().float() for x in case.tensors)

    def run(q: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return case.attention(q, k, v)

    found = torch.compile(run, fullgraph=True, backend="aot_eager")(q)
    assert found.dtype == torch.bfloat16 and torch.equal(found, run(q))


@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_are_the_same_attention(backend: str) -> None:
    case = case_of("ordered", backend)
    layer = Layer(case.attention)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)]
    for each in copies:
        assert (
            each.attention._compiled.handle == case.attention._compiled.handle
            and each.attention._compiled is case.attention._compiled
        )
        assert torch.equal(each(*case.tensors, case.inputs), layer(*case.tensors, case.inputs))


HANDLE = """
from tests.support.citizenship import LINES, mask_of
print(*(mask_of(name).compile()._compiled.handle for name in LINES))
"""


def test_handles_are_those_of_every_process() -> None:
    handles = [mask_of(name).compile()._compiled.handle for name in LINES]
    ended = subprocess.run([sys.executable, "-c", HANDLE], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == handles
    compiled = [mask_of("static").compile("tiled"), mask_of("static").with_order("t by i % 2").compile()]
    others = [each._compiled.handle for each in compiled]
    assert len({*handles, *others}) == len(handles) + 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_second_derivatives(backend: str) -> None:
    check_no_second_derivatives(backend)


def test_no_forward_mode() -> None:
    case = case_of("sloped")
    q, k, v = (x.detach() for x in case.tensors)
    inputs = {name: x.detach() for name, x in case.inputs.items()}

    def loss(slope: Tensor) -> Tensor:
        return case.loss(q, k, v, inputs | {"slope": slope})

    slope = inputs["slope"]
    for wrong in (
        lambda: torch.func.jvp(lambda q: case.attention(q, k, v, **inputs), (q,), (q,)),
        lambda: torch.func.jacfwd(loss)(slope),
        lambda: torch.func.hessian(loss)(slope),
    ):
        with pytest.raises(AttnError, match=r"E421.*no forward-mode derivatives"):
            wrong()
    with pytest.raises(AttnError, match=r"E428.*no second derivatives"):
        torch.func.jacrev(torch.func.jacrev(loss))(slope)


def test_mistakes_are_told_when_compiling() -> None:
    case = case_of("static")
    compiled = torch.compile(case.attention.__call__, fullgraph=True, backend="eager")
    q = torch.randn(1, HEADS, 41, 8)
    with pytest.raises(Exception, match=r"E407.*`q`, `k` and `v` have 41 tokens, but `p` has 40"):
        compiled(q, q, q)


@every_case
def test_some_gradients(name: str, backend: str) -> None:
    """Those of one tensor at a time, of tensors in any layout."""
    case = case_of(name, backend)
    expected = case.gradients()
    for number, gradient in enumerate(expected):
        leaves = [x.detach() for x in case.leaves]
        leaves = [x.transpose(-1, -2).contiguous().transpose(-1, -2) if x.dim() > 1 else x for x in leaves]
        leaves[number].requires_grad_()
        floats = [name for name, x in case.inputs.items() if x.requires_grad]
        inputs = case.inputs | dict(zip(floats, leaves[3:], strict=True))
        (found,) = torch.autograd.grad(case.loss(*leaves[:3], inputs), leaves[number])
        torch.testing.assert_close(found, gradient, rtol=1e-12, atol=1e-12)


# Lengths of tensors


FOLLOWS = "pattern p(n, size = 8) { space t[n] input document: int[batch, t] attend backward(size) and same(document) }"


def follow_tensors(length: int) -> tuple[list[Tensor], Tensor]:
    shapes = [(3, HEADS, length, dim) for dim in (8, 8, 5)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return tensors, torch.randint(0, 2, (3, length))


def test_lengths_change_without_compiling_anew() -> None:
    pattern = maskdsl.parse(FOLLOWS)["p"]
    attention = pattern.compile(heads=HEADS, size=5)
    counter = CompileCounterWithBackend("aot_eager")

    def loss(attention, q: Tensor, k: Tensor, v: Tensor, document: Tensor) -> Tensor:
        out, lse = attention(2 * q, k, v, document=document, return_lse=True)
        return out.sin().sum() + lse.cos().sum()

    compiled = torch.compile(lambda *tensors: loss(attention, *tensors), fullgraph=True, dynamic=True, backend=counter)
    for length in (40, 17, 100, 64):
        tensors, document = follow_tensors(length)
        fixed = pattern.bind(n=length, size=5, heads=HEADS).compile()
        expected = torch.autograd.grad(loss(fixed, *tensors, document), tensors)
        for call in (compiled, lambda *tensors: loss(attention, *tensors)):
            assert_same(torch.autograd.grad(call(*tensors, document), tensors), expected)
    assert counter.frame_count == 1
    assert attention.at(17)._compiled.handle == pattern.bind(n=17, size=5, heads=HEADS).compile()._compiled.handle


def test_queries_and_keys_of_their_own_lengths() -> None:
    text = "pattern p(m, n) { space a[m] space b[n] queries a keys b attend all -> all where q <= k }"
    pattern = maskdsl.parse(text)["p"]
    attention = pattern.compile("reference", follow=("m", "n"))
    for m, n in ((4, 9), (9, 4), (5, 5)):
        q, k = torch.randn(2, 1, m, 8), torch.randn(2, 1, n, 8)
        assert torch.equal(attention(q, k, k), pattern.bind(m=m, n=n).compile("reference")(q, k, k))


def test_what_follows_lengths_is_copied_and_exported() -> None:
    attention = maskdsl.parse(FOLLOWS)["p"].compile(heads=HEADS)
    for each in (copy.deepcopy(attention), pickle.loads(pickle.dumps(attention))):
        assert each._compiled.handle == attention._compiled.handle
    layer = Layer(attention)  # type: ignore[arg-type]
    tensors, document = follow_tensors(30)
    length = torch.export.Dim("length", min=2, max=4096)
    exported = torch.export.export(
        layer,
        (*(x.detach() for x in tensors), {"document": document}),
        dynamic_shapes=({2: length}, {2: length}, {2: length}, {"document": {1: length}}),
    )
    tensors, document = follow_tensors(77)
    arguments = (*(x.detach() for x in tensors), {"document": document})
    assert torch.equal(exported.module()(*arguments), layer(*arguments))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"follow": "m"}, r"E202.*no parameter `m`"),
        ({"follow": ()}, r"E429.*names nothing"),
        ({"follow": ("n", "n")}, r"E429.*names `n`, `n`"),
        ({"n": 3}, r"E430.*`n` follows the lengths"),
        ({"sise": 3}, r"E202.*no parameter `sise`(.|\n)*did you mean `size`"),
        ({"follow": "size"}, r"E203.*`n` of `p` has no value"),
        ({"backend": "tile"}, r"E420.*no backend `tile`"),
    ],
)
def test_what_cannot_be_followed(options: dict[str, object], says: str) -> None:
    with pytest.raises(AttnError, match=says):
        maskdsl.parse(FOLLOWS)["p"].compile(**options)  # type: ignore[arg-type]


def test_errors_of_binding_are_raised_by_the_call() -> None:
    pattern = maskdsl.parse('pattern p(n) { space t[n] attend causal assert n % 4 == 0, "fours" }')["p"]
    q, k = torch.randn(1, 1, 6, 8), torch.randn(1, 1, 8, 8)
    with pytest.raises(AttnError, match=r"E\d+.*fours"):
        pattern.compile()(q, q, q)
    with pytest.raises(AttnError, match=r"E407.*`q` has 6 tokens, but `p` has 8"):
        pattern.compile()(q, k, k)
    with pytest.raises(AttnError, match=r"E415.*`k` is not a tensor but list"):
        pattern.compile()(q, [1], q)  # type: ignore[arg-type]

"""`attention.prepare(**inputs)`: a callable that gives what the attention gives with these inputs."""

import copy
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.runtime.backends.native.library import library
from maskdsl.runtime.methods.prepared import PreparedAttention

EXAMPLES = Path(__file__).parents[2] / "examples"
BACKENDS = [
    "tiled",
    "reference",
    pytest.param("native", marks=pytest.mark.skipif(library() is None, reason="no C compiler works here")),
]
TEXT = """
pattern packed(n = 64) { space t[n]  input document: int[batch, t]  attend causal and same(document) }
pattern biased(n = 64) {
    space t[n]
    input document: int[t]
    input bias: float[heads, 129]
    attend same(document)
    score s + bias[head, clamp(q - k, -64, 64) + 64]
}
pattern scaled(n = 64) { space t[n]  input level: float[t]  attend causal  scale q.level / dim }
pattern grouped(n = 64) { space t[n]  input group: int[t]  attend same(group)  order t by group }
pattern added(n = 64) {
    space t[n]
    input document: int[t]
    branch near { attend same(document) and window(9) }
    branch far { attend same(document)  weight 0.5 }
}
pattern routed(n = 64) {
    space t[n]
    input document: int[t]
    coord chunk = i // 8
    route past = topk(2, dot(q, mean(k by chunk)))
    attend past and same(document)
}
pattern listed(n = 64) { space t[n]  input edges: sparse[t, t]  attend edges[q, k] }
"""
MODULE = maskdsl.parse(TEXT)
DOCUMENT = torch.arange(64) // 20
EDGES = torch.tensor([[0, 1, 5, 63], [3, 1, 60, 2]])
INPUTS: dict[str, dict[str, Any]] = {
    "packed": {"document": torch.stack([DOCUMENT, DOCUMENT.flip(0)])},
    "biased": {"document": DOCUMENT, "bias": torch.randn(2, 129)},
    "scaled": {"level": torch.rand(64)},
    "grouped": {"group": torch.randint(0, 3, (64,))},
    "added": {"document": DOCUMENT},
    "routed": {"document": DOCUMENT},
    "listed": {"edges": EDGES},
}


def tensors(batch: int = 2, length: int = 64, dim: int = 16, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(batch, 2, length, dim, dtype=dtype, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", INPUTS)
def test_results_and_gradients_are_those_of_the_attention(name: str, backend: Any) -> None:
    attention = MODULE[name].bind(heads=2).compile(backend)
    inputs = INPUTS[name]
    attend = attention.prepare(**inputs)
    for number in range(3):
        qkv = tensors(dim=16 + 8 * (number == 2), dtype=torch.float64 if number == 1 else torch.float32)
        found, expected = attend(*qkv), attention(*qkv, **inputs)
        assert torch.equal(found, expected)
        toward = torch.randn_like(found)
        for one, other in zip(*(torch.autograd.grad(out, qkv, toward) for out in (found, expected)), strict=True):
            assert torch.equal(one, other)
        if name != "added":
            found, lse = attend(*qkv, return_lse=True)
            assert torch.equal(lse, attention(*qkv, **inputs, return_lse=True)[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_learned_inputs_have_gradients(backend: Any) -> None:
    attention = MODULE["biased"].bind(heads=2).compile(backend)
    bias, qkv = nn.Parameter(torch.randn(2, 129)), tensors()
    optimizer = torch.optim.SGD([bias], 0.1)
    for _ in range(2):
        attend = attention.prepare(document=DOCUMENT, bias=bias)
        with torch.no_grad():
            attend(*qkv)  # a first call without gradients is followed by others with them
        outs = attend(*qkv), attend(*qkv)
        (found,) = torch.autograd.grad(sum(out.square().sum() for out in outs), bias)
        out = attention(*qkv, document=DOCUMENT, bias=bias)
        (expected,) = torch.autograd.grad(2 * out.square().sum(), bias)
        torch.testing.assert_close(found, expected)
        bias.grad = found
        optimizer.step()
        with pytest.raises(AttnError, match=r"E465.*`bias` has changed"):
            attend(*qkv)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.add_(1),
        lambda document: document[3:].zero_(),
        lambda document: setattr(document, "data", document.clone()),
    ],
)
def test_a_change_is_an_error(change: Any) -> None:
    attention, document = MODULE["packed"].bind(heads=2).compile("tiled"), INPUTS["packed"]["document"].clone()
    attend, qkv = attention.prepare(document=document), tensors()
    out = attend(*qkv)
    before = document.clone()
    change(document)
    with pytest.raises(AttnError, match="E465"):
        attend(*qkv)
    assert torch.equal(attention.prepare(document=document)(*qkv), attention(*qkv, document=document))
    assert torch.equal(out, attention(*qkv, document=before))


def test_arrays_and_lists_are_copied() -> None:
    attention, qkv = MODULE["packed"].bind(heads=2).compile("tiled"), tensors()
    document: Any = INPUTS["packed"]["document"].numpy().copy()
    numbers = document.tolist()
    expected = attention(*qkv, document=document)
    attends = [attention.prepare(document=each) for each in (document, numbers)]
    document += np.arange(64)
    numbers[0][:] = range(64)
    for attend in attends:
        assert torch.equal(attend(*qkv), expected)
        assert torch.equal(attend(*qkv, dropout_p=0.0), expected)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "E410.*`document`"),
        ({"documents": DOCUMENT}, "did you mean `document`"),
        ({"document": DOCUMENT[:-1].expand(2, 63)}, "`document`.*63"),
        ({"document": DOCUMENT.float().expand(2, 64)}, "`document`.*int"),
        ({"document": "text"}, "`document`"),
        ({"document": DOCUMENT.expand(2, 64), "bias": DOCUMENT}, "`bias`"),
    ],
)
def test_wrong_inputs_are_errors_when_it_is_prepared(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(AttnError, match=f"(?s){message}"):
        MODULE["packed"].bind(heads=2).compile("tiled").prepare(**inputs)


def test_wrong_calls_are_errors() -> None:
    attention = MODULE["packed"].bind(heads=2).compile("tiled")
    attend, qkv = attention.prepare(**INPUTS["packed"]), tensors()
    for wrong, message in (
        ({"document": DOCUMENT}, "E466.*`document` is given"),
        ({"documents": DOCUMENT}, "`documents`"),
        ({"layout": 3}, "E460.*`layout`"),
        ({"return_lse": 1}, "E460.*`return_lse`"),
    ):
        with pytest.raises(AttnError, match=message):
            attend(*qkv, **wrong)  # type: ignore[call-overload]
    attend(*qkv)
    for arguments in (tensors(batch=3), tensors(length=63), [*qkv[:2], qkv[2][0]], [*qkv[:2], None]):
        with pytest.raises(AttnError) as found:
            attend(*arguments)
        with pytest.raises(AttnError) as expected:
            attention(*arguments, **INPUTS["packed"])
        assert str(found.value) == str(expected.value)
    with pytest.raises(AttnError, match="32-bit"):
        attention.prepare(document=torch.full((2, 64), 2**40))(*qkv)


def test_other_arguments_are_those_of_the_attention() -> None:
    attention, inputs = MODULE["packed"].bind(heads=2).compile("tiled"), INPUTS["packed"]
    attend, (q, k, v) = attention.prepare(**inputs), tensors()
    assert torch.equal(attend(q, k, v, layout="ordered"), attention(q, k, v, layout="ordered", **inputs))
    dropped = {"dropout_p": 0.5, "seed": 3}
    assert torch.equal(attend(q, k, v, **dropped), attention(q, k, v, **dropped, **inputs))
    last = q[:, :, -3:]
    assert torch.equal(attend(last, k, v, query_start=61), attention(last, k, v, query_start=61, **inputs))
    attention = MODULE["grouped"].bind(heads=2).compile("tiled", layout="bnhd")
    attend, turned = attention.prepare(**INPUTS["grouped"]), [x.transpose(1, 2) for x in (q, k, v)]
    assert torch.equal(attend(*turned), attention(*turned, **INPUTS["grouped"]))
    assert attend(*turned, return_lse=True)[1].shape == (2, 64, 2)


def test_lengths_may_follow_the_tensors() -> None:
    text = "pattern p(n) { space t[n]  input level: float[heads]  attend causal  score s - level[head] * (q - k) }"
    attention = maskdsl.parse(text)["p"].compile(heads=2, backend="tiled")
    level = torch.rand(2)
    attend = attention.prepare(level=level)
    for length in (8, 64, 8):
        qkv = tensors(length=length)
        assert torch.equal(attend(*qkv), attention(*qkv, level=level))
    with pytest.raises(AttnError, match="`level`"):
        attention.prepare(level=torch.rand(3))


class Layers(nn.Module):
    """Layers that share what a step has prepared."""

    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.projections = nn.ModuleList(nn.Linear(16, 48) for _ in range(3))

    def forward(self, x: Tensor, document: Tensor) -> Tensor:
        attend = self.attention.prepare(document=document)
        for each in self.projections:
            q, k, v = each(x).unflatten(-1, (1, 48)).transpose(1, 2).chunk(3, dim=-1)
            x = x + attend(q, k, v).squeeze(1)
        return x


def test_in_modules_and_graphs() -> None:
    attention = MODULE["packed"].bind().compile("tiled")
    layers, x, document = Layers(attention), torch.randn(2, 64, 16), INPUTS["packed"]["document"].clone()
    expected = layers(x, document)
    compiled = torch.compile(layers, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, document), expected)
    document.flip(1)
    compiled(x, document).sum().backward()
    assert all(each.weight.grad is not None for each in layers.projections)
    attend, qkv = attention.prepare(document=document), [torch.randn(2, 1, 64, 16) for _ in range(3)]

    @torch.compile(backend="aot_eager", fullgraph=True)
    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v) * 2

    torch.testing.assert_close(step(*qkv), attend(*qkv) * 2)
    document.add_(torch.arange(64))
    torch.testing.assert_close(step(*qkv), attention(*qkv, document=document) * 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert attention.prepare(document=document)(*qkv).dtype == torch.bfloat16
    mapped = torch.vmap(attention.prepare(document=document))(*[x.unsqueeze(0) for x in qkv])
    torch.testing.assert_close(mapped[0], attention(*qkv, document=document))


def test_in_inference_mode() -> None:
    attention, qkv = MODULE["packed"].bind(heads=2).compile("tiled"), [x.detach() for x in tensors()]
    attend = attention.prepare(**INPUTS["packed"])
    with torch.inference_mode():
        inside = attention.prepare(document=INPUTS["packed"]["document"].clone())
        found = attend(*qkv), inside(*qkv)
    for each in (*found, attend(*qkv), inside(*qkv)):
        torch.testing.assert_close(each, attention(*qkv, **INPUTS["packed"]))
    q = qkv[0].clone().requires_grad_()
    attend(q, *qkv[1:]).sum().backward()
    assert q.grad is not None


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_prepared_anew(copied: Any) -> None:
    attention, qkv = MODULE["packed"].bind(heads=2).compile("tiled"), tensors()
    document = INPUTS["packed"]["document"].clone()
    attend = attention.prepare(document=document)
    expected = attend(*qkv)
    other = copied(attend)
    assert isinstance(other, PreparedAttention) and torch.equal(other(*qkv), expected)
    if copied is not copy.copy:
        document.zero_()
        assert torch.equal(other(*qkv), expected)


def test_a_call_takes_less_time() -> None:
    attention, qkv = MODULE["packed"].bind(heads=2).compile("tiled"), [x.detach() for x in tensors(batch=2)]
    inputs = INPUTS["packed"]
    attend = attention.prepare(**inputs)

    def best(call: Any) -> float:
        call()
        times = []
        for _ in range(30):
            start = time.process_time()
            for _ in range(5):
                call()
            times.append(time.process_time() - start)
        return min(times)

    assert best(lambda: attend(*qkv)) < best(lambda: attention(*qkv, **inputs))

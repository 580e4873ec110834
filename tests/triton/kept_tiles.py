"""Run in a process of its own, with TRITON_INTERPRET=1: which kernels calls start whose inputs decide tiles.

Each call's results are compared with those of the dense reference. Prints "agreed", or raises.
"""

from collections import Counter
from typing import Any
from unittest.mock import patch
from weakref import ref

import torch
from torch import Tensor

import maskdsl
import maskdsl.runtime.methods.prepared
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.kernels import known_inputs

PACKED = "pattern packed(n = 40) { space t[n]  input document: int[t]  attend causal and same(document) }"
BATCHED = "pattern batched(n = 40) { space t[n]  input document: int[batch, t]  attend same(document) }"
SORTED = """
pattern sorted(n = 40) {
    space t[n]
    input group: int[t]
    attend same(group)
    order t by group
}
"""
SLOPED = """
pattern sloped(n = 40) {
    space t[n]
    input document: int[t]
    input level: float[t]
    input slope: float[heads]
    attend causal and same(document)
    score s + slope[head] * (q - k) + q.level * k.level
}
"""
ROUTED = """
pattern routed(n = 64) {
    space t[n]
    coord chunk = i // 16
    route past = topk(2, dot(q, mean(k by chunk)))
    attend past
}
"""
FOUND = {"extremes_kernel": 1, "tiles_kernel": 1}
FORWARD = {"forward_kernel": 1}
BACKWARD = {"delta_kernel": 1, "query_gradient_kernel": 1, "key_gradient_kernel": 1}
NAMES = ("extremes_kernel", "count_kernel", "ranges_kernel", "tiles_kernel", "forward_kernel", *BACKWARD)
torch.manual_seed(0)
Q, K, V = (torch.randn(2, 1, 40, 16, requires_grad=True) for _ in range(3))


class Counted:
    """A kernel whose starts are counted."""

    def __init__(self, kernel: Any, name: str, counts: Counter[str]) -> None:
        self.kernel, self.name, self.counts = kernel, name, counts

    def __getitem__(self, grid: object) -> Any:
        def start(*arguments: object, **options: object) -> None:
            self.counts[self.name] += 1
            self.kernel[grid](*arguments, **options)

        return start

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)


class Case:
    """A pattern with both backends, and the kernels that the last call has started."""

    def __init__(self, text: str, **sizes: int) -> None:
        (pattern,) = maskdsl.parse(text).values()
        mask = pattern.bind(**sizes)
        self.attention, self.reference = mask.compile("triton"), mask.compile("reference")
        assert isinstance(self.attention, Attention)
        self.counts: Counter[str] = Counter()
        module = self.attention._compiled.default_kernel.module
        for name in NAMES:
            kernel = getattr(module, name)  # modules of one text are one
            setattr(module, name, Counted(kernel.kernel if isinstance(kernel, Counted) else kernel, name, self.counts))

    def started(self) -> dict[str, int]:
        counts = dict(self.counts)
        self.counts.clear()
        return counts

    def forward(self, **inputs: Any) -> Tensor:
        """The output, which agrees with the reference."""
        out: Tensor = self.attention(Q, K, V, **inputs)
        torch.testing.assert_close(out, self.reference(Q, K, V, **inputs), atol=1e-4, rtol=1e-4)
        return out

    def backward(self, out: Tensor, **inputs: Any) -> None:
        """Gradients, which agree with the reference."""
        sources = [Q, K, V, *(x for x in inputs.values() if x.requires_grad)]
        toward = torch.randn_like(out)
        found = torch.autograd.grad(out, sources, toward)
        expected = torch.autograd.grad(self.reference(Q, K, V, **inputs), sources, toward)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def documents(size: int = 15) -> Tensor:
    return torch.arange(40) // size


def layers_share() -> None:
    """Tiles are found once by rows and once by columns, for both passes of all layers."""
    case, document = Case(PACKED), documents()
    outs = [case.forward(document=document)]
    assert case.started() == FOUND | FORWARD
    outs += [case.forward(document=document) for _ in range(2)]
    assert case.started() == {"forward_kernel": 2}
    case.backward(outs[2], document=document)
    assert case.started() == {"tiles_kernel": 2} | BACKWARD  # columns, and rows of other blocks
    for out in outs[:2]:
        case.backward(out, document=document)
        assert case.started() == BACKWARD
    case.forward(document=document[:])
    assert case.started() == FORWARD, "a view of it has its elements"
    with torch.autocast("cpu", torch.float16):
        assert case.attention(Q, K, V, document=document).dtype == torch.float16
    assert case.started() == FORWARD, "kernels of this dtype have the same blocks"
    case.attention(Q.detach(), K.detach(), V.detach(), document=document)
    assert case.started() == FORWARD


def changes_show() -> None:
    """Other numbers are another block map, however they have come into the tensor."""
    case, document = Case(PACKED), documents()
    case.forward(document=document)
    for change in (
        lambda: document.add_(documents(20)),
        lambda: document.__setitem__(slice(10, 30), 7),
        lambda: document[5:].copy_(documents()[:35]),
        lambda: setattr(document, "data", documents(33)),
        lambda: torch.add(documents(), 1, out=document),
    ):
        case.started()
        change()
        case.forward(document=document)
        assert case.started() == FOUND | FORWARD
    with torch.inference_mode():
        document.zero_()
        case.forward(document=document)
    assert case.started() == FOUND | FORWARD
    document.numpy()[:20] = 9  # which torch does not see
    torch.autograd.graph.increment_version(document)
    case.forward(document=document)
    assert case.started() == FOUND | FORWARD


def changes_between_passes_are_errors() -> None:
    case, document = Case(PACKED), documents()
    out = case.forward(document=document)
    document.add_(1)
    try:
        torch.autograd.grad(out.sum(), Q)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)
    else:
        raise AssertionError("the gradient of other documents")


def tensors_are_told_apart() -> None:
    """By more than the number of an object or an address in memory, which the next tensor may have."""
    case = Case(PACKED)
    for size in (7, 20, 40) * 2:
        document = documents(size)
        case.forward(document=document)
        assert case.started() == FOUND | FORWARD
        del document
    whole = torch.cat([documents(15), documents(11)])
    case.forward(document=whole[:40])
    case.forward(document=whole[40:])
    case.forward(document=whole[::2])
    assert case.started() == {"extremes_kernel": 3, "tiles_kernel": 3, "forward_kernel": 3}
    case.forward(document=whole[40:])
    assert case.started() == FORWARD


def nothing_is_known() -> None:
    """Tensors without a version, lists, operators in graphs, results of routes: tiles are found in every call."""
    routed = maskdsl.parse(ROUTED)["routed"].bind().compile("triton")
    assert routed._compiled.plan.finds_device_tiles and not routed._compiled.deciding
    case = Case(PACKED)
    with torch.inference_mode():
        document = documents()
        for _ in range(2):
            case.forward(document=document)
            assert case.started() == FOUND | FORWARD
    numbers = documents()
    for _ in range(2):
        case.forward(document=numbers.tolist())
        assert case.started() == FOUND | FORWARD
    handle = case.attention._single.handle.name
    for number in range(2):
        numbers.data.div_(number + 1, rounding_mode="floor")  # as programs that reuse memory write
        out, _ = torch.ops.maskdsl.attention(Q, K, V, [numbers], handle, "declared", False)
        torch.testing.assert_close(out, case.reference(Q, K, V, document=numbers), atol=1e-4, rtol=1e-4)
        assert case.started() == FOUND | FORWARD
    compiled = torch.compile(case.attention, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        compiled(Q.detach(), K.detach(), V.detach(), document=numbers)
        assert case.started() == FOUND | FORWARD
    with patch.object(known_inputs, "stream_of", lambda device: None):  # as while a CUDA graph is captured
        for _ in range(2):
            case.forward(document=numbers)
            assert case.started() == FOUND | FORWARD


def streams_do_not_share() -> None:
    """Nothing orders what one stream writes before what another reads."""
    case, document = Case(PACKED), documents()
    for stream in ("one", "other", "one"):
        with patch.object(known_inputs, "stream_of", lambda device, stream=stream: stream):
            case.forward(document=document)
    assert case.started() == {"extremes_kernel": 2, "tiles_kernel": 2, "forward_kernel": 3}


def memory_is_freed() -> None:
    case, document = Case(PACKED), documents()
    known = case.attention._compiled.last_inputs
    case.backward(case.forward(document=document), document=document)
    (kept,) = known.known.values()
    lives, memory = ref(document), ref(kept[0])
    del kept, document
    assert lives() is None and memory() is None and not known.known, "with the last user of the tensor"
    many = [documents(size) for size in range(1, known.LIMIT + 3)]
    for each in many:
        case.forward(document=each)
    assert len(known.known) == known.LIMIT
    case.started()
    case.forward(document=many[-1])
    case.forward(document=many[0])
    assert case.started() == {**FOUND, "forward_kernel": 2}


def other_patterns() -> None:
    """Entries of a batch, an order by an input, and learned inputs, whose tables are their own."""
    for text in (BATCHED, SORTED):
        case = Case(text)
        document = documents()[torch.randperm(40)]
        inputs = {case.attention.inputs[0]: document.expand(2, 40) if text is BATCHED else document}
        outs = [case.forward(**inputs) for _ in range(3)]
        assert case.started() == {**FOUND, "forward_kernel": 3}
        case.backward(outs[0], **inputs)
        case.started()
        case.backward(outs[1], **inputs)
        assert case.started() == BACKWARD
        document.copy_(document.flip(0))
        case.forward(**inputs)
        assert case.started() == FOUND | FORWARD
    case, document = Case(SLOPED), documents()
    slope = torch.nn.Parameter(torch.rand(1) / 16)
    level = torch.rand(40)
    for _ in range(3):
        out = case.forward(document=document, level=level, slope=slope)
        case.backward(out, document=document, level=level, slope=slope)
        with torch.no_grad():
            slope.data.add_(0.1)
    assert case.started()["tiles_kernel"] == 3
    level.mul_(2)
    case.forward(document=document, level=level, slope=slope)
    learned = torch.nn.Parameter(torch.rand(40))
    for _ in range(2):
        out = case.forward(document=document, level=learned, slope=slope)
        case.backward(out, document=document, level=learned, slope=slope)
        learned.data.add_(1)  # as some optimizers write, and no version tells


def prepared() -> None:
    """Tiles of what is prepared stay, whatever is called meanwhile; on each stream, and in graphs, they are others."""
    case, document = Case(PACKED), documents()
    attend = case.attention.prepare(document=document)
    expected = case.reference(Q, K, V, document=document)
    outs = []
    for size in range(1, 2 + case.attention._compiled.last_inputs.LIMIT):
        outs.append(attend(Q, K, V))
        torch.testing.assert_close(outs[-1], expected, atol=1e-4, rtol=1e-4)
        assert case.started() == (FORWARD if size > 1 else FOUND | FORWARD)
        case.forward(document=documents(size))
        case.started()
    case.backward(outs[0], document=document)
    assert case.started() == {"tiles_kernel": 2} | BACKWARD
    case.backward(outs[1], document=document)
    assert case.started() == BACKWARD
    for stream, started in (
        ("one", FOUND | FORWARD),
        ("one", FORWARD),
        (None, FOUND | FORWARD),
        (None, FOUND | FORWARD),
    ):
        with patch.object(maskdsl.runtime.methods.prepared, "stream_of", lambda device, stream=stream: stream):
            attend(Q, K, V)
        assert case.started() == started
    attend(Q, K, V, return_lse=True)
    assert case.started() == FORWARD
    with torch.inference_mode():
        inside = case.attention.prepare(document=documents())
        for started in (FOUND | FORWARD, FORWARD):
            inside(Q, K, V)
            assert case.started() == started


def check() -> None:
    layers_share()
    changes_show()
    changes_between_passes_are_errors()
    tensors_are_told_apart()
    nothing_is_known()
    streams_do_not_share()
    memory_is_freed()
    other_patterns()
    prepared()


if __name__ == "__main__":
    check()
    print("agreed")

"""Selection kernels of routes: in Triton's interpreter, and compiled ahead of time."""

import json
import re
from pathlib import Path

import pytest
import torch
from ahead import SHARED, TARGETS, Recording, compile_selection, example_values, examples
from assembly import MATRIX
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import maskdsl
from maskdsl.emit.plan import make_plan
from maskdsl.emit.torch.routing_module import emit_routing
from maskdsl.emit.triton.selection.selection_module import emit_selection
from tests.support.interpreting import last_line
from tests.support.routing_examples import CASES

EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"


@pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.long)])
def test_examples(step: int) -> None:
    found = json.loads(last_line("triton.selections", "examples", step))
    assert len(found) == len(CASES[::step]) + (7 if step == 1 else 4)
    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.long
def test_random_routes() -> None:
    found = json.loads(last_line("triton.selections", "random", 7, 3))
    assert len(found) == 7
    assert not {text: wrong for text, wrong in found.items() if wrong}


ROUTES = """pattern weighed(n = 16384, block = 64) {
    space tokens[n]
    input document: int[batch, tokens]
    coord chunk = i // block
    route past = topp(0.9, dot(mean(q by chunk), max(k where i % 2 == 0 by chunk))) where k.chunk <= q.chunk
    route near = above(0.5, dot(q, mean(k by document)))
    attend causal and (past or near)
}"""


@pytest.mark.parametrize("target", TARGETS)
def test_compiled_ahead_of_time(target: str) -> None:
    """The resources of all examples are in the record that `tests/benchmarks/test_aot.py` checks."""
    found = compile_selection(maskdsl.parse(ROUTES)["weighed"].bind(heads=4).ir, target)
    assert set(found) == {"pool_kernel", "past_scores_kernel", "past_kernel", "near_scores_kernel"}
    assert all(each.usage.spills == 0 and each.usage.shared <= SHARED[target] for each in found.values())
    for name in ("past_scores_kernel", "near_scores_kernel"):
        count = len(MATRIX.findall(found[name].assembly))
        assert count > 0
        assert count % (1 if target == "gfx942" else 3) == 0  # three products of TF32 for one


class NoWaiting(TorchDispatchMode):
    """Fails where a number on the host is copied to the device, which would synchronize a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        outcome = [x for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        if {x.device.type for x in outcome} == {"meta"}:
            copies = "copy" in str(func)
            assert not [x for x in given if x.device.type == "cpu" and (x.dim() or copies)], func
        return result


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.attn")), ids=lambda file: file.stem)
def test_nothing_waits_for_the_device(file: Path) -> None:
    """Meta tensors stand for those of a GPU: reading a value raises."""
    for pattern in maskdsl.load(file).values():
        sizes = {name: size for name, size in {"n": 1024, "index_heads": 4}.items() if name in pattern.parameters}
        plan = make_plan(pattern.bind(heads=4, **sizes).ir)
        q, k, _ = examples(plan, (64, 64), torch.float32)
        names = [plan.input_identifiers[each.name] for each in plan.mask.routed]
        inputs = {name: x for name, x in example_values(plan, 64).items() if name not in names}
        for text in (emit_routing(plan), emit_selection(plan)):
            module = Recording.of(text, re.findall(r"^def (\w+_kernel)\(", text, re.MULTILINE)).module
            with NoWaiting():
                assert [*module.find(q, k, inputs)] == names

"""A backend is a class and a place in `BACKENDS`: everything else asks it what it can do."""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

import maskdsl
from maskdsl.api import Mask
from maskdsl.api.verify import verify
from maskdsl.base.arguments import BackendName
from maskdsl.cli import main
from maskdsl.cli.request import completions
from maskdsl.cli.stages import STAGES
from maskdsl.emit.plan import KernelPlan
from maskdsl.emit.torch.reference_module import emit_reference
from maskdsl.runtime.backends.available import BACKENDS, backend_names, usable_backends
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.base.call import Attend, KernelCall

ROOT = Path(__file__).parents[2]
TEXT = """pattern p(n = 40) {
    space t[n]
    input doc: int[batch, t]
    input slope: float[heads]
    attend same(doc) and causal
    score s - slope[head] * (q - k)
}"""
ROUTED = """pattern p(n = 64) {
    space t[n]
    coord block = i // 16
    route past = topk(1, dot(q, mean(k by block))) where k.block < q.block
    attend causal and (past or same(block))
}"""


class Doubled(Backend):
    """The dense meaning in float64."""

    name = "doubled"

    def emit(self, plan: KernelPlan) -> str:
        return emit_reference(plan)

    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
            out, lse = call.module.attention(q.double(), k.double(), v.double(), call.values)
            return out.to(q.dtype), lse.to(torch.promote_types(q.dtype, torch.float32))

        return attend


class Counted(Doubled):
    """Of which tests want to know whether it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        self.calls += 1
        return super().prepared(call, q, k, v)


@pytest.fixture
def doubled(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    backend = Counted()
    monkeypatch.setitem(BACKENDS, "doubled", backend)
    yield backend


def compiled(mask: Mask, name: Any = "doubled") -> Any:
    return mask.compile(name)


def test_a_backend_in_the_list_alone_computes(doubled: Counted) -> None:
    mask = maskdsl.parse(TEXT)["p"].bind(heads=2)
    inputs = {"doc": torch.arange(40)[None] // 13, "slope": torch.rand(2, requires_grad=True)}
    leaves = [torch.randn(1, 2, 40, 8, requires_grad=True) for _ in range(3)] + [inputs["slope"]]
    found, expected = ([], [])
    for name, results in (("doubled", found), ("reference", expected)):
        out, lse = compiled(mask, name)(*leaves[:3], return_lse=True, **inputs)
        results += [out, lse, *torch.autograd.grad((out.sin().sum() + lse.sum()), leaves)]
    assert doubled.calls
    torch.testing.assert_close(found, expected)


def test_it_decodes_and_finds_routes(doubled: Counted) -> None:
    mask = maskdsl.parse(ROUTED)["p"].bind(heads=2)
    q, k, v = (torch.randn(1, 2, 64, 8) for _ in range(3))
    whole = compiled(mask)(q, k, v)
    torch.testing.assert_close(whole, compiled(mask, "reference")(q, k, v))
    torch.testing.assert_close(compiled(mask)(q[:, :, 60:], k, v, query_start=60), whole[:, :, 60:])


def test_it_is_tried_by_verify_and_the_command_line(
    doubled: Counted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "doubled" in usable_backends()
    assert verify(maskdsl.parse(TEXT)["p"], cases=2, parameters={"n": 11}).backends[-1] == "doubled"
    assert doubled.calls >= 2
    file = tmp_path / "p.attn"
    file.write_text(TEXT)
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(file), "--cases", "1", "--backend", "doubled"])
    assert ended.value.code == 0
    assert "1 cases, doubled, " in capsys.readouterr().out


def test_auto_takes_it_where_it_serves(doubled: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = maskdsl.parse("pattern p(n = 8) { space t[n] attend causal }")["p"].bind()
    q = torch.randn(1, 1, 8, 4)
    compiled(mask, "auto")(q, q, q)
    assert not doubled.calls
    monkeypatch.setattr(doubled, "serves", lambda plan, q, v: q.dtype == torch.float64)
    compiled(mask, "auto")(q, q, q)
    assert not doubled.calls
    compiled(mask, "auto")(q.double(), q.double(), q.double())
    assert doubled.calls == 1


# Every place that lists backends


def test_the_type_and_what_shells_offer_list_all() -> None:
    assert {*get_args(BackendName)} == {*backend_names()}
    assert get_args(BackendName) == completions.BACKENDS


def test_every_backend_is_a_stage_and_shells_offer_all_stages() -> None:
    assert {*BACKENDS} <= {stage.name for stage in STAGES}
    assert tuple(stage.name for stage in STAGES) == completions.STAGES


def test_the_documentation_names_all() -> None:
    listed = next(line for line in inspect.getdoc(Mask.compile).splitlines() if "Backends: " in line)
    assert {*re.findall(r'`"(\w+)"`', listed)} == {*backend_names()}


def test_contributors_are_told_of_all_that_a_backend_says_of_itself() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text().split("## Add a backend")[1].split("\n## ")[0]
    assert {*re.findall(r"`(\w+)`", told)} >= {name for name in vars(Backend) if not name.startswith("_")}
    assert inspect.getsource(Doubled) == dedent(told.split("```text\n")[1].split("```")[0]).rstrip() + "\n"


def test_nothing_asks_for_the_name_of_a_backend() -> None:
    asked = re.compile(rf"[!=]= \"({'|'.join(backend_names())})\"|\"({'|'.join(BACKENDS)})\" [!=]=")
    wrong = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in (ROOT / "maskdsl").rglob("*.py")
        for line in path.read_text().splitlines()
        if asked.search(line)
    ]
    assert not wrong

"""Exported programs run in processes that have compiled nothing."""

import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import maskdsl
from maskdsl import AttnError
from maskdsl.runtime.calls.carried import _made, carried
from maskdsl.runtime.compiled.compiled_mask import find

HEADS, LENGTH = 4, 40
LINES = {
    "static": "attend causal where random(1, head, q, k) % 3 != 0",
    "inputs": "input document: int[batch, t] input bias: float[heads, t]"
    " attend same(document) and causal score s + k.bias order by document",
    "branches": "branch near { attend window(9) weight 0.5 } branch far { attend causal weight 2.0 }",
    "routed": "coord chunk = i // 8 route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk"
    " attend past or same(chunk) and causal",
    "multiplied": "attend causal score s + 0.1 * dot(k, k)",
}
ELSEWHERE = """
import sys
import torch
import maskdsl.nn
for folder in sys.argv[1:]:
    arguments, expected = torch.load(folder + "/results")
    if folder.endswith("package"):
        found = torch._inductor.aoti_load_package(folder + "/program.pt2")(*arguments)
    else:
        found = torch.export.load(folder + "/program.pt2").module()(*arguments)
    torch.testing.assert_close(tuple(found), expected, rtol=1e-12, atol=1e-12)
"""


class Layer(nn.Module):
    """A call with all queries, one with dropout, and a partial one where `is_partial`."""

    def __init__(self, attention: Any, is_partial: bool) -> None:
        super().__init__()
        self.attention, self.is_partial = attention, is_partial

    def forward(self, q: Tensor, k: Tensor, v: Tensor, inputs: dict[str, Any]) -> tuple[Tensor, ...]:
        results = [*self.attention(q, k, v, return_lse=True, **inputs)]
        results.append(self.attention(q, k, v, dropout_p=0.25, seed=7, **inputs))
        if self.is_partial:
            results.append(self.attention(q[:, :, -3:], k, v, query_start=LENGTH - 3, **inputs))
        return tuple(results)


def _inputs(name: str) -> dict[str, Any]:
    torch.manual_seed(1)
    if name != "inputs":
        return {}
    document = (torch.rand(2, LENGTH) < 0.1).cumsum(1)
    return {"document": document, "bias": torch.randn(HEADS, LENGTH, dtype=torch.float64)}


def _exported(folder: Path, name: str, follows: bool, as_package: bool = False) -> None:
    folder.mkdir()
    pattern = maskdsl.parse(f"pattern p(n) {{ space t[n]\n {LINES[name]} }}")["p"]
    bound = pattern.compile(heads=HEADS, follow="n") if follows else pattern.bind(n=LENGTH, heads=HEADS).compile()
    layer, inputs = Layer(bound, name != "multiplied"), _inputs(name)
    arguments = (*torch.randn(3, 2, HEADS, LENGTH, 16, dtype=torch.float64), inputs)
    exported = torch.export.export(layer, arguments)
    if as_package:
        torch._inductor.aoti_compile_and_package(exported, package_path=str(folder / "program.pt2"))
    else:
        torch.export.save(exported, folder / "program.pt2")
    torch.save((arguments, layer(*arguments)), folder / "results")


def _run_elsewhere(folders: list[Path]) -> None:
    words = [sys.executable, "-W", "ignore", "-c", ELSEWHERE, *map(str, folders)]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_programs_run_in_another_process(tmp_path: Path) -> None:
    cases = [(name, follows) for name in LINES for follows in (False, True)]
    folders = [tmp_path / f"{name} {follows}" for name, follows in cases]
    for folder, case in zip(folders, cases, strict=True):
        _exported(folder, *case)
    _run_elsewhere(folders)


@pytest.mark.long
@pytest.mark.skipif(not any(map(which, ("g++", "c++", "clang++"))), reason="inductor needs a C++ compiler")
def test_packages_run_in_another_process(tmp_path: Path) -> None:
    folders = [tmp_path / f"{name} package" for name in LINES]
    for folder, name in zip(folders, LINES, strict=True):
        _exported(folder, name, follows=False, as_package=True)
    _run_elsewhere(folders)


EVERY = [(path, name) for path in maskdsl.examples().values() for name in maskdsl.load(path)]


@pytest.mark.parametrize(
    "some", [EVERY[::25], pytest.param(EVERY, marks=pytest.mark.long)], ids=["some examples", "every example"]
)
def test_texts_make_equal_masks(some: list[tuple[Path, str]]) -> None:
    for path, name in some:
        whole = maskdsl.load(path)[name].bind(heads=4).compile()._compiled
        for compiled in (whole, *whole.summands.masks):
            handle, text = carried(compiled).split(" ", 1)
            assert _made(text).handle == handle, name


def test_text_is_not_read_where_the_pattern_is_known() -> None:
    compiled = maskdsl.parse("pattern p(n) { space t[n] attend causal }")["p"].bind(n=8).compile()._compiled
    assert find(carried(compiled)) is compiled


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", "{}", '{"kind": "else"}', '{"kind": "dropout", "of": null}', "[" * 100_000),
        '{"kind": "pattern", "text": [], "heads": []}',
        '{"kind": "branches", "of": {"kind": "lists", "of": {}}, "numbers": [0]}',
    ],
)
def test_broken_texts(text: str) -> None:
    with pytest.raises(AttnError, match="E478"):
        find(f"0123 {text}")


def test_texts_of_other_patterns() -> None:
    """As where another version binds the text in another way."""
    made = carried(
        maskdsl.parse("pattern p(n) { space t[n] attend causal and window(3) }")["p"].bind(n=9).compile()._compiled
    )
    _, text = made.split(" ", 1)
    with pytest.raises(AttnError, match=r"E478.*in another way"):
        find(f"{'0' * 32} {text}")

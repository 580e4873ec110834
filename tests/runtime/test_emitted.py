"""What the torch backends emit is formatted, clean and needs torch alone; their skeletons run as they are."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import maskdsl
from maskdsl.emit.plan import SKELETON_NAMES
from maskdsl.emit.skeleton import fill, read_skeleton

PATTERNS = {
    "plain": "pattern p(n = 40) { space tokens[n] attend window(9) }",
    "scored": """pattern p(n = 40) {
        space text[n]
        space image[y = 4, x = 5]
        tokens text ++ image
        coord image.z = hilbert(y, x)
        input heat: float[batch, tokens]
        attend text -> all
        attend image -> image where q.z // max(k.z, 1) <= 3
        scale 0.5
        score s + k.heat
        weight exp(k.heat)
    }""",
    "pooled": """pattern p(n = 40) {
        space text[t = n]
        space words = max(text, 7)
        space sentences = mean(words, 3)
        queries text
        keys sentences ++ text
        coord text.word = t // 7
        attend text -> text where same(word)
        attend text -> sentences
    }""",
}


def emitted(name: str, backend: str) -> str:
    return maskdsl.parse(PATTERNS[name])["p"].bind(heads=2).compile(backend).source


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", PATTERNS)
def test_emitted_modules_are_clean(name: str, backend: str) -> None:
    ruff(["check", "--select", "E,F,W,I"], emitted(name, backend))


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", ["plain", "pooled"])
def test_emitted_modules_are_formatted(name: str, backend: str) -> None:
    """But for relations of several lines, which have one operand a line."""
    ruff(["format", "--diff"], emitted(name, backend))


def ruff(command: list[str], text: str) -> None:
    words = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "120", "-"]
    ended = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("backend", ["tiled", "reference"])
@pytest.mark.parametrize("name", PATTERNS)
def test_emitted_modules_need_torch_alone(name: str, backend: str) -> None:
    tree = ast.parse(emitted(name, backend))
    found = {each.name for node in tree.body if isinstance(node, ast.Import) for each in node.names}
    found |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom) and node.module}
    assert {each.split(".")[0] for each in found} <= {"torch", "itertools", "functools", "math", "threading"}


def test_the_reference_skeleton_is_full_attention() -> None:
    names: dict[str, object] = {}
    exec(compile(Path("codegen/reference.py").read_text(), "reference.py", "exec"), names)
    q, k, v = torch.randn(3, 1, 2, 9, 4)
    out, lse = names["attention"](q, k, v, {})  # type: ignore[operator]
    torch.testing.assert_close(out, torch.nn.functional.scaled_dot_product_attention(q, k, v))
    torch.testing.assert_close(lse, (q @ k.mT / 2).logsumexp(-1))


def test_the_tiled_skeleton_is_full_attention() -> None:
    names: dict[str, object] = {}
    exec(compile(Path("codegen/tiled.py").read_text(), "tiled.py", "exec"), names)
    mask = maskdsl.parse("pattern p(n) { space tokens[n] attend all -> all }")["p"].bind(n=70)
    q, k, v = torch.randn(3, 1, 1, 70, 4, dtype=torch.float64)
    attention = mask.compile("tiled")
    attention(q, k, v)
    state = attention._compiled.states.find(attention._compiled.plan, {}, 1)
    work, heads = state.kept["schedules"].work(1, 1, 1)
    out, _ = names["attention"](q, k, v, {}, work, {}, heads, lambda f, items: [f(item) for item in items])  # type: ignore[operator]
    torch.testing.assert_close(out, torch.nn.functional.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("name", SKELETON_NAMES)
def test_no_input_has_the_name_of_a_function_that_is_called(name: str) -> None:
    defined = re.findall(r"^(?:def|class) (\w+)", read_skeleton(name), re.MULTILINE)
    assert set(SKELETON_NAMES[name].split()) == set(defined)


NESTED = """int f(void) {
    /* hole: all */
    int x = 1;
        /* hole: more */
        x++;
        /* end */
    for (;;) {
        /* end */
        return x;
    }
}
"""


def test_holes_in_holes():
    """An outer hole ends with its own marker, wherever that stands, and keeps what is in it or loses it."""
    kept = fill(NESTED, {"all": None})
    assert "hole: all" not in kept and kept.count("end") == 1
    assert fill(kept, {"more": ["x = 2;"]}).splitlines()[2:4] == ["        x = 2;", "    for (;;) {"]
    assert fill(NESTED, {"all": ["{"]}).splitlines() == ["int f(void) {", "    {", "        return x;", "    }", "}"]

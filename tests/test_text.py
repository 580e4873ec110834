"""Text of files never becomes code: hostile docs, names, messages and paths in every output."""

import ast
import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.api import Mask
from maskdsl.base.text import (
    c_comment,
    docstring,
    markdown,
    markdown_code,
    markdown_word,
    markup,
    pdf_string,
    script_json,
)
from maskdsl.cli import main
from maskdsl.cli.stages import STAGES
from maskdsl.emit.native_scores import plain_native
from maskdsl.emit.native_text import emit_native
from maskdsl.emit.plan import make_plan
from maskdsl.emit.torch.flex_module import inexpressible
from maskdsl.emit.torch.reference_module import emit_reference
from maskdsl.runtime.backends.available import BACKENDS, usable_backends
from maskdsl.runtime.base.module_cache import load_module
from maskdsl.view.image.scene import Label, Scene
from maskdsl.view.image.svg import svg
from maskdsl.view.page.html import page_html
from maskdsl.view.page.page_data import Subject, page_data
from tests.support.drawn import examples

PLAIN = """
## A doc.
pattern plain(n = 16) {
    space tokens[n]
    input document: int[tokens]
    attend causal and same(document)
}
"""
ROUTED = """
## A doc.
pattern routed(n = 16) {
    space tokens[n]
    coord chunk = i // 4
    input bias: float[heads]
    route past = topk(1, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
    score s + bias[head]
}
"""
PIECES = [
    *('"""', "'''", '"', "\\", "\n", "\r", "\f", "\v", "\x1c", "\x85", "\u2028", "\u2029", "\0", "\x1b[2J", "\x7f"),
    *("\ud800", "\udfff", "#", "*/", "</script>", "<!--", "]]>", "# hole: predicate", "# end", "@triton.jit"),
    *("\u202e", "\u2066", "# -*- coding: utf-7 -*-", "{", "}", "$", "%s", "`", "```", "[x](y)", "(", ")", "x", " "),
]
hostile = st.lists(st.sampled_from(PIECES) | st.text(st.characters(), max_size=3), max_size=12).map("".join)


def mask_of(text: str) -> Mask:
    (pattern,) = maskdsl.parse(text).values()
    return pattern.bind(heads=2)


MASKS = [mask_of(PLAIN), mask_of(ROUTED)]


def without_docstrings(text: str) -> str:
    """What is left of a module when its own docstring is taken away."""
    module = ast.parse(text)
    assert isinstance(module.body[0], ast.Expr) and isinstance(module.body[0].value, ast.Constant)
    return ast.dump(ast.Module(module.body[1:], []))


def modules(mask: Mask) -> list[str]:
    """Every generated module of a mask."""
    refused = any(inexpressible(mask.ir))
    stages = (each for each in STAGES if each.is_python and not (each.name == "flex" and refused))
    return [each.text(mask, {}) for each in stages] + [each.emit(make_plan(mask.ir)) for each in BACKENDS.values()]


HARMLESS = without_docstrings(emit_reference(make_plan(MASKS[0].ir)))


def with_doc(mask: Mask, doc: str) -> Mask:
    return replace(mask, ir=replace(mask.ir, doc=doc))


@pytest.mark.parametrize("mask", MASKS, ids=["plain", "routed"])
def test_no_doc_changes_a_generated_module(mask: Mask) -> None:
    changed = modules(with_doc(mask, "".join(PIECES)))
    assert list(map(without_docstrings, changed)) == list(map(without_docstrings, modules(mask)))


@given(hostile)
@settings(max_examples=examples(40))
def test_no_doc_changes_a_module(doc: str) -> None:
    """Of any text: one module for all, whose first lines are made by the same function."""
    assert without_docstrings(emit_reference(make_plan(with_doc(MASKS[0], doc).ir))) == HARMLESS


@given(st.lists(hostile, min_size=1, max_size=4))
@settings(max_examples=examples(50))
def test_a_docstring_says_what_it_was_given(lines: list[str]) -> None:
    text = "\n".join(docstring(lines))
    (statement,) = ast.parse(text).body
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    assert text.isascii() or all(each.isprintable() or each == "\n" for each in text)
    if not any(line.endswith(" ") for line in lines):
        assert statement.value.value == "\n".join([*lines, ""])


def without_comment(text: str) -> str:
    """What is left of a text in C when the comment that it begins with is taken away, as compilers do it."""
    for escape in ("\\", "??/"):  # at the end of a line either joins it to the next one, in comments too
        text = text.replace(f"{escape}\n", "")
    begin, _, rest = text.partition("/*")
    comment, end, rest = rest.partition("*/")
    assert (begin, end) == ("", "*/") and "/*" not in comment
    return rest


@given(st.lists(hostile | st.text("*/\\?\n ", max_size=9), min_size=1, max_size=4))
@settings(max_examples=examples(200))
def test_nothing_ends_a_comment_in_c(lines: list[str]) -> None:
    text = "\n".join(c_comment(lines))
    assert without_comment(f"{text}\nint x;\n") == "\nint x;\n"
    assert all(each.isprintable() or each == "\n" for each in text)


@given(hostile)
@settings(max_examples=examples(40))
def test_no_doc_changes_the_text_in_c(doc: str) -> None:
    expected = without_comment(emit_native(MASKS[0].ir))
    assert without_comment(emit_native(with_doc(MASKS[0], doc).ir)) == expected
    assert plain_native().text.replace("\\\n", "") in expected


def test_lines_of_a_module_are_those_of_python() -> None:
    """Triton reads a function's text by its line: a character that other readers break lines at shifts none."""
    module = load_module('"""a\x0cb\x1cc\x85d\u2028e"""\n\n\ndef f():\n    return 1\n', "lines")
    assert inspect.getsource(module.f) == "def f():\n    return 1\n"


ATTACK = '## x """; __import__("os").system("touch pwned"); _ = """\n## ok """\n## \\\n'
EVIL = ATTACK + PLAIN.replace("## A doc.\n", "").lstrip()


def run_evil(*words: str) -> None:
    with pytest.raises(SystemExit) as end:
        main([words[0], "evil.attn", *words[1:]])
    assert not end.value.code


def test_nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evil.attn").write_text(EVIL)
    for backend in usable_backends():
        run_evil("run", "n=8", "--backend", backend, "--seconds", "0.001", "--heads", "1")
    run_evil("verify", "--cases", "1")
    mask = maskdsl.load("evil.attn")["plain"].bind()
    for stage in STAGES:
        text = stage.text(mask, {"document": np.zeros(16, dtype=np.int64)})
        if stage.is_python:
            load_module(text, stage.name)
            assert '\\"\\"\\"; __import__' in text
    assert not Path("pwned").exists()


@pytest.mark.long
def test_nothing_is_executed_by_kernels(tmp_path: Path) -> None:
    (tmp_path / "evil.attn").write_text(EVIL)
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(Path(maskdsl.__file__).parents[1])}
    for command in (["run", "evil.attn", "n=8", "--backend", "triton"], ["verify", "evil.attn", "--cases", "1"]):
        subprocess.run([sys.executable, "-m", "maskdsl", *command], cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "pwned").exists()


class Elements(HTMLParser):
    """The tags of a page, with the names of their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attributes)))

    def handle_comment(self, data: str) -> None:
        self.found.append(("comment", ()))


@given(hostile)
@settings(max_examples=examples(12))
def test_pages_and_notebooks_have_the_same_elements(text: str) -> None:
    mask = MASKS[0]

    def shown(doc: str) -> list[Elements]:
        changed = replace(mask.ir, doc=doc)
        page = page_html([], doc, watch={"version": 1, "error": doc})
        page.encode()
        return [Elements(page), Elements(replace(mask, ir=changed)._repr_html_())]

    for found, harmless in zip(shown(f"a {text}"), shown("a"), strict=True):
        assert found.found == harmless.found


def test_a_page_of_a_hostile_pattern() -> None:
    mask = MASKS[0]
    subject = Subject(mask.pattern.program, (replace(mask.ir, doc="</script><!-- <script>"),), {}, ())
    page = page_html([page_data(replace(subject, inputs={"document": np.zeros(16, dtype=np.int64)}))], "a")
    assert page.count("</script>") == page_html([], "a").count("</script>")


@given(hostile)
def test_svg_is_xml_with_one_text(text: str) -> None:
    scene = Scene(10, 10, (Label(1, 1, text, 8),))
    root = ElementTree.fromstring(svg(scene))
    assert [each.tag.rpartition("}")[2] for each in root] == ["rect", "text"] and not list(root[1])


@given(hostile)
def test_text_of_other_outputs(text: str) -> None:
    same = json.loads(json.dumps(text))  # two halves of a surrogate pair that meet are one character in JSON
    assert json.loads(script_json(text)) == same and "<" not in script_json(text)
    assert not {"<", ">", '"', "'"} & set(markup(text).encode().decode())
    inside = pdf_string(text).replace("\\\\", "").replace("\\(", "").replace("\\)", "")
    assert not {"(", ")", "\\", "\n", "\r"} & set(inside)
    fence = markdown_code(text).split("attn", 1)[0]
    assert fence not in markdown_code(text)[len(fence) : -len(fence)]
    assert "\n" not in markdown_word(text)


def test_prose_in_markdown() -> None:
    assert markdown("a `b_c` [x](y)\n<img> ```\n# d") == "a `b_c` \\[x\\](y)  \n\\<img\\> \\`\\`\\`  \n\\# d"


PLACES: dict[str, Callable[[str], str]] = {
    "comment": lambda bad: f"# a{bad}\n",
    "doc": lambda bad: f"## a{bad}\ndef a() = 1\n",
    "string": lambda bad: f'pattern a(n = 4) {{ space t[n] assert n > 0, "{bad}" attend causal }}\n',
    "words": lambda bad: f"def a() = 1{bad}\n",
    "number": lambda bad: f"def a() = 1{bad}0\n",
}
BAD = [*map(chr, [*range(9), 11, 12, *range(14, 32), *range(127, 160), 0x2028, 0x2029]), "\ud800", "\udfff"]
BAD += [*map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)])]


@pytest.mark.parametrize("position", PLACES)
def test_forbidden_characters_stand_nowhere(position: str) -> None:
    for bad in BAD:
        text = "# one\n" + PLACES[position](bad)
        with pytest.raises(maskdsl.AttnError) as raised:
            maskdsl.parse(text)
        (found,) = raised.value.diagnostics
        assert found.code == "E110" and found.span is not None and found.span.text == bad
        assert f"U+{ord(bad):04X}" in str(raised.value) and str(raised.value).replace("\n", "").isprintable()


def test_other_characters_stand_in_comments() -> None:
    """Those that words of some languages are written with, and pictures."""
    assert (
        "été \u200d\u200c\u200f 日本 👩\u200d💻\ta"
        in maskdsl.parse("## été \u200d\u200c\u200f 日本 👩\u200d💻\ta\n" + PLAIN.replace("## A doc.\n", "").lstrip())[
            "plain"
        ].doc
    )


def test_json_in_a_page_has_no_mark_of_html() -> None:
    shown = script_json({"doc": "</script><!-- &lt;"})
    assert json.loads(shown) == {"doc": "</script><!-- &lt;"} and not {*"<>&"} & {*shown}

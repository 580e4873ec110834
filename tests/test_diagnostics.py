"""How errors look: every kind of place, and nothing that a terminal would take for a command."""

from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl.base.diagnostics import AttnError, Diagnostic, Note, nearest_name, render
from maskdsl.base.excerpt import WIDTH, excerpt
from maskdsl.base.source import Source, Span
from tests.support.drawn import examples


class Unknown(Diagnostic):
    code: ClassVar[str] = "E999"
    message: ClassVar[str] = "no axis named `{name}`"
    label: ClassVar[str] = "{name}?"
    help: ClassVar[str] = "axes are {{named}}"

    name: str


def shown(text: str, start: int, end: int) -> str:
    return "\n".join(excerpt(Span(Source("a.attn", text), start, end), "here"))


@pytest.mark.parametrize(
    ("text", "start", "end", "expected"),
    [
        ("one\nabc def\n", 8, 11, " --> a.attn:2:5\n  |\n2 | abc def\n  |     ^^^ here"),
        ("\tab\tcd = 1", 4, 6, " --> a.attn:1:5\n  |\n1 |     ab  cd = 1\n  |         ^^ here"),
        ("\u65e5\u672c = x", 5, 6, " --> a.attn:1:6\n  |\n1 | \u65e5\u672c = x\n  |        ^ here"),
        ('"\u65e5\u672c" x', 1, 3, ' --> a.attn:1:2\n  |\n1 | "\u65e5\u672c" x\n  |  ^^^^ here'),
        ("e\u0301 x", 3, 4, " --> a.attn:1:4\n  |\n1 | e\u0301 x\n  |   ^ here"),
        ("a\x1b[31mb\r\n", 2, 3, " --> a.attn:1:3\n  |\n1 | a\ufffd[31mb\n  |   ^ here"),
        ("attend x and\n\n\n", 15, 15, " --> a.attn:1:13\n  |\n1 | attend x and\n  |             ^ here"),
        ("", 0, 0, " --> a.attn:1:1\n  |\n1 |\n  | ^ here"),
        ("ab\ncd", 0, 3, " --> a.attn:1:1\n  |\n1 | ab\n  | ^^ here"),
        (
            "a = f(\n  b,\n c)\n",
            4,
            14,
            " --> a.attn:1:5\n  |\n1 |   a = f(\n  |  _____^\n2 | |   b,\n3 | |  c)\n  | |__^ here",
        ),
        (
            "  f(\n  b,\n c)\n",
            2,
            12,
            " --> a.attn:1:3\n  |\n1 | /   f(\n2 | |   b,\n3 | |  c)\n  | |__^ here",
        ),
    ],
)
def test_excerpt(text: str, start: int, end: int, expected: str) -> None:
    assert shown(text, start, end) == expected


def test_many_lines_are_left_out() -> None:
    text = "\n".join(f"line {number}" for number in range(1, 200))
    assert shown(text, text.index("line 98"), text.index("line 150") + 8) == "\n".join(
        [
            "   --> a.attn:98:1",
            "    |",
            " 98 | / line 98",
            " 99 | | line 99",
            "... | |",
            "150 | | line 150",
            "    | |________^ here",
        ]
    )


def test_long_lines_are_cut_around_the_place() -> None:
    lines = shown("x" * 3000 + "BAD" + "y" * 3000, 3000, 3003).split("\n")
    at = lines[2].index("BAD")
    assert lines[2].startswith("1 | ...x") and lines[2].endswith("y...") and lines[3].index("^^^ here") == at
    assert all(len(line) < WIDTH + 30 for line in lines)


@given(st.text(st.sampled_from("ab \t\n\r\u65e5\u0301\x1b\u202e"), max_size=300), st.data())
@settings(max_examples=examples(150))
def test_any_place_of_any_text(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    lines = excerpt(Span(Source("a\nb", text), start, data.draw(st.integers(start, len(text) + 1))), "here")
    assert all("\n" not in line and (line.isprintable() or "\u0301" in line) for line in lines)
    assert lines[-1].endswith("^ here")


def test_whole_error() -> None:
    source = Source("a.attn", "first\nsecond\n")
    note = Note("declared here", Span(source, 6, 12))
    error = AttnError(
        Unknown(name="z\x1b", span=Span(source, 0, 5), notes=(note, Note("no place")), nearest="y"), Unknown(name="w")
    )
    assert str(error).split("\n") == [
        "error[E999]: no axis named `z\ufffd`",
        " --> a.attn:1:1",
        "  |",
        "1 | first",
        "  | ^^^^^ z\ufffd?",
        "  note: declared here",
        " --> a.attn:2:1",
        "  |",
        "2 | second",
        "  | ^^^^^^",
        "  note: no place",
        "  help: did you mean `y`?",
        "  help: axes are {named}",
        "",
        "error[E999]: no axis named `w`",
        "  help: axes are {named}",
        "",
        "found 2 errors",
    ]
    assert str(AttnError(error.diagnostics[1])) == render(error.diagnostics[1])


def test_nearest_name() -> None:
    assert nearest_name("atend", ["attend", "score"]) == "attend"
    assert nearest_name("zzz", ["attend", "score"]) is None


def test_fields_are_found_once() -> None:
    """Trials of what may yet come to nothing make tens of thousands of errors."""
    assert Unknown.fields() is Unknown.fields() and "name" in Unknown.fields()

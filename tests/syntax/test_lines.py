"""Lines end at LF, CR LF and CR alike: in positions, excerpts, comments, strings, documentation and layout."""

from pathlib import Path

import pytest

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.source import Source, Span
from maskdsl.syntax.format import format_file
from maskdsl.syntax.parse import MOST_WORDS, parse
from maskdsl.view.language_server.documents import Document

ENDS = ["\n", "\r\n", "\r"]
TEXT = """# first
## A doc
## of two lines.
pattern a(n = 4) {  # beside
    space t[n]

    # own
    attend causal
}

def b() = c
"""


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_everything_reads_the_same(end: str) -> None:
    text = TEXT.replace("\n", end)
    file = parse(Source("a", text))
    usual = parse(Source("a", TEXT))
    assert file == usual and format_file(file) == format_file(usual)
    assert maskdsl.parse(text)["a"].doc == "A doc\nof two lines."


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_positions(end: str) -> None:
    text = TEXT.replace("\n", end)
    source, document = Source("a", text), Document("untitled:a", text)
    assert [line.rstrip("\r\n") for line in source.lines] == TEXT.split("\n")
    for number, line in enumerate(TEXT.split("\n"), 1):
        assert source.line(number) == line
        for column, character in enumerate(line, 1):
            offset = source.line_starts[number - 1] + column - 1
            assert text[offset] == character and source.position(offset) == (number, column)
            assert document.lines.position(offset) == (number - 1, column - 1)
            assert document.lines.offset(number - 1, column - 1) == offset


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_errors_say_their_line(end: str, tmp_path: Path) -> None:
    path = tmp_path / "a.attn"
    path.write_bytes(f"# one{end}# two{end}{end}def a() = ){end}# five{end}".encode())
    with pytest.raises(AttnError) as raised:
        maskdsl.load(path)
    assert "a.attn:4:11\n  |\n4 | def a() = )\n  |           ^" in str(raised.value)


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_strings_end_with_their_line(end: str) -> None:
    with pytest.raises(AttnError) as raised:
        parse(Source("a", f'use "b{end}c" def'))
    found = raised.value.diagnostics[0]
    assert found.code == "E108" and found.span is not None and found.span.text == '"b'


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_half_typed_lines_are_left_out(end: str) -> None:
    text = f"def a() = 1{end}pattern (){end}def b() = 2{end}"
    names = [each.name.id for each in Document("untitled:a", text).understood.root.declarations]  # type: ignore[union-attr]
    assert names == ["a", "b"]


def test_too_many_words_say_where() -> None:
    text = "+\n" * MOST_WORDS + "last"
    with pytest.raises(AttnError) as raised:
        parse(Source("a", text))
    (found,) = raised.value.diagnostics
    assert found.code == "E119" and found.span is not None
    assert found.span.source.position(found.span.start) == (MOST_WORDS + 1, 1) and found.span.text == "last"


def test_a_span_of_several_lines_is_shown_as_lines() -> None:
    source = Source("a", "x\ry\r\nz")
    assert source.position(source.text.index("z")) == (3, 1)
    assert Span(source, 0, 1).to(Span(source, 5, 6)).text == source.text

"""The formatter keeps the tree and the comments, and its own output."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.format import format_file
from maskdsl.syntax.format_expression import format_expression
from maskdsl.syntax.parse import parse, parse_expression
from tests.support.drawn import examples
from tests.syntax.strategies import expressions, files

WORD = re.compile(r'"(\\.|[^"\\])*"|#[^\n]*|[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?|\w+|[^\w\s"]+')
HERE = Path(__file__).parent


def parsed(text: str) -> tree.File:
    return parse(Source("<test>", text))


def comment_texts(file: tree.File) -> list[str]:
    docs = [getattr(declaration, "doc", "") for declaration in file.declarations]
    return sorted([comment.text for comment in file.comments] + docs)


@given(files)
@settings(max_examples=examples(150))
def test_round_trip(file: tree.File) -> None:
    text = format_file(file)
    again = parsed(text)
    assert again == file
    assert format_file(again) == text
    assert all(line == line.rstrip() for line in text.split("\n"))


@given(expressions)
@settings(max_examples=examples(150))
def test_round_trip_of_an_expression(expression: tree.Expression) -> None:
    text = format_expression(expression)
    assert "\n" not in text and parse_expression(Source("<test>", text)) == expression


@given(expressions)
@settings(max_examples=examples(100))
def test_no_pair_of_parentheses_is_idle(expression: tree.Expression) -> None:
    """Leaving out any one pair of parentheses that the formatter writes changes the meaning."""
    text = format_expression(expression)
    opened: list[int] = []
    inside_string = False
    for at, character in enumerate(text):
        if character == '"' and not re.search(r"(^|[^\\])(\\\\)*\\$", text[:at]):
            inside_string = not inside_string
        if inside_string or character not in "()":
            continue
        if character == "(":
            opened.append(at)
            continue
        start = opened.pop()
        words_before = start and (text[start - 1].isalnum() or text[start - 1] in "_")
        bare = f"{text[:start]} {text[start + 1 : at]} {text[at + 1 :]}"
        if words_before:
            continue  # a call's, or behind a keyword that a blank would separate
        try:
            changed = parse_expression(Source("<test>", bare)) != expression
        except Exception as error:
            changed = type(error).__name__ == "AttnError"
        assert changed, f"{text} without the parentheses at {start}"


@given(files, st.data())
@settings(max_examples=examples(150))
def test_comments_are_kept(file: tree.File, data: st.DataObject) -> None:
    """Comments behind any words: each is still there once, the tree the same, and a second run changes nothing."""
    text = format_file(file).replace("\n##", "\n#")
    gaps = [match.end() for match in WORD.finditer(text)]
    chosen = data.draw(st.sets(st.sampled_from(gaps), max_size=4) if gaps else st.just(set()))
    kinds = st.sampled_from([" # a{}\n", "\n# b{}\n", " ## c{}\n", "\n\n## d{}\n\n", "\n##e{}\n"])
    for number, gap in enumerate(sorted(chosen, reverse=True)):
        text = text[:gap] + data.draw(kinds).format(number) + text[gap:]
    before = parsed(text)
    once = format_file(before)
    after = parsed(once)
    assert after == before
    assert comment_texts(after) == comment_texts(before)
    assert format_file(after) == once


def test_golden() -> None:
    """One file of hard layouts, as a person wrote it and as it is laid out."""
    written = (HERE / "layout_written.attn").read_text(encoding="utf-8")
    expected = (HERE / "layout.attn").read_text(encoding="utf-8")
    assert format_file(parsed(written)) == expected
    assert format_file(parsed(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a + +b",
        "- -a",
        "+ +a",
        "-(a + b)",
        "(-a) ** 2",
        "-a ** 2",
        "(a,)",
        "not (a and b)",
        "(not a) == b",
        "(a where b) and c",
        "a where b and c",
        "a where (b or c)",
        "(not a -> b) where c",
        "(d and not a -> b) where c",
        "not (a -> b where c)",
        "not d and a -> b where c",
        "(a -> b where c) or d",
        "d or a -> b where c",
        "d or (a -> b where c) or e -> f where g",
        "(a -> b where c) if d else e -> f where g",
        "(d or a -> b where c) if e else f",
        "d if a -> b where c else e",
        "(a -> b where c) where d",
        "a -> b where (c if d else e)",
        "a -> b where (c -> d)",
        "a -> b where c and not (d -> e)",
        "a -> b where any(c -> d for j in 0 .. 3) and (e or f -> g)",
        "(a -> b) + c",
        "(a == b) == c",
        "a - (b - c)",
        "(a ** b) ** c",
        "1_000 + 1e-3 + 0.10",
    ],
)
def test_kept_as_written(text: str) -> None:
    assert format_expression(parse_expression(Source("<test>", text))) == text

"""Texts that nobody writes: parse answers with a tree or with AttnError, soon, whatever comes."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.format import format_file
from maskdsl.syntax.parse import DEEPEST, LARGEST_TEXT, MOST_ERRORS, parse, parse_expression, parse_statement
from tests.support.drawn import examples
from tests.syntax.strategies import files, texts_of_words


def survive(text: str) -> tree.File | None:
    """The tree, if it is one; else the error, which can be printed and has all its places inside the text."""
    try:
        return parse(Source("<test>", text))
    except AttnError as error:
        assert str(error) and 0 < len(error.diagnostics) <= MOST_ERRORS
        for diagnostic in error.diagnostics:
            if diagnostic.span is not None:
                assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(text)
        return None


@given(st.text() | texts_of_words)
@settings(max_examples=examples(250))
def test_any_text(text: str) -> None:
    survive(text)


@given(texts_of_words.map(lambda text: f"pattern p() {{\n{text}\n}}\ndef f() = {text}"))
@settings(max_examples=examples(200))
def test_any_words_inside(text: str) -> None:
    survive(text)


@given(texts_of_words, st.sampled_from([parse_expression, parse_statement]))
@settings(max_examples=examples(150))
def test_any_part(text: str, read: object) -> None:
    assert callable(read)
    try:
        read(Source("<test>", text))
    except AttnError as error:
        assert str(error)


@given(files, st.data())
@settings(max_examples=examples(100))
def test_damaged_text(file: tree.File, data: st.DataObject) -> None:
    text = format_file(file)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 5)))
    survive(text[:start] + data.draw(st.sampled_from(["", "(", "}", '"', "def", " = ", "\n", "#", "0"])) + text[end:])


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "(" * 20_000 + "x" + ")" * 20_000,
        "(" * 40_000,
        "a[" * 40_000,
        "f(" * 12_000 + ")" * 12_000,
        "not " * 90_000 + "x",
        "-" * 90_000 + "x",
        "a ** " * 20_000 + "a",
        "a if b else " * 10_000 + "a",
        "a + " * 20_000 + "a",
        "a < " * 20_000 + "a",
        "f(" + "1, " * 20_000 + ")",
        "9" * 900_000,
        "1_" * 400_000,
        "1." + "9" * 900_000,
        '"' + "\\a" * 400_000,
        '"' + "\\a" * 400_000 + '"',
        '"' * 99_999,
        "{" * 90_000,
        ")" * 90_000,
        "." * 90_000,
        "$" * 900_000,
        "\0" * 900_000,
        "let " * 90_000,
        "let\n" * 90_000,
        "pattern\n" * 90_000,
        "#\n" * 400_000,
        "\n" * 900_000,
        "x\n}\npattern p() {\n" + "attend x +\n" * 12_000 + "}",
        "x\n" + "def f() =\n" * 19_000,
        "f(\n" + "a, # c\n" * 12_000 + ")",
    ],
    ids=lambda text: text[:10],
)
def test_large(text: str) -> None:
    began = time.process_time()
    file = survive(f"def f() = {text}")
    if file is not None:
        format_file(file)
    assert time.process_time() - began < 10  # well above what it takes, well below what a quadratic step would


def test_limits() -> None:
    def codes(text: str) -> list[str]:
        with pytest.raises(AttnError) as caught:
            parse(Source("<test>", text))
        return [diagnostic.code for diagnostic in caught.value.diagnostics]

    assert codes("def f() = " + "1 " * 100_000) == ["E119"]
    assert codes(" " * (LARGEST_TEXT + 1)) == ["E116"]
    assert parse_expression(Source("<test>", "-" * (DEEPEST - 2) + "x"))
    assert codes("def f() = " + "-" * DEEPEST + "x") == ["E115"]


def test_the_deepest_tree_can_be_formatted() -> None:
    for text in ("-" * 95 + "x", "f(" * 45 + "x" + ")" * 45, "a ** " * 90 + "b", "a if b else " * 90 + "c"):
        expression = parse_expression(Source("<test>", text))
        macro = tree.MacroDeclaration(tree.Name("f", span=expression.span), (), (), expression, span=expression.span)
        assert parse(Source("<test>", format_file(tree.File((macro,), span=expression.span)))).declarations == (macro,)

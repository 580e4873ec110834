"""Texts as they are while somebody types: nothing that is asked about them fails."""

import random
from pathlib import Path

import pytest

from maskdsl.base.source import Source
from maskdsl.syntax.parse import parse
from maskdsl.view.language_server.completion import completion
from maskdsl.view.language_server.definition import definition
from maskdsl.view.language_server.documents import Document, Lines, readable
from maskdsl.view.language_server.hover import hover
from maskdsl.view.language_server.symbols import symbols
from maskdsl.view.language_server.text_diagnostics import diagnose

EXAMPLES = ["language/gemma", "vision/clear", "routing/moba", "vision/hilo"]


class Unmeasured:
    """In place of what finds tiles."""

    async def text(self, *_):
        return ""


def ask_everything(text: str, offset: int) -> None:
    document = Document("file:///nowhere/some.attn", text)
    diagnose(document)
    symbols(document)
    ask_about(document, offset)


def ask_about(document: Document, offset: int) -> None:
    completion(document, offset)
    definition(document, offset)
    try:
        hover(document, offset, Unmeasured()).send(None)
    except StopIteration:
        return


@pytest.mark.parametrize("name", EXAMPLES)
def test_cut_anywhere(name):
    text, positions = Path(f"examples/{name}.attn").read_text(), random.Random(name)
    for _ in range(12):
        end = positions.randrange(len(text))
        ask_everything(text[:end], end)
        ask_everything(text[:end] + "\n" + text[text.find("\n", end) + 1 :], end)


@pytest.mark.parametrize("name", EXAMPLES)
def test_with_stray_characters(name):
    text, positions = Path(f"examples/{name}.attn").read_text(), random.Random(name)
    for _ in range(12):
        at = positions.randrange(len(text))
        ask_everything(text[:at] + positions.choice('{}()[]".=+#\0\r\U0001d11e') + text[at:], at)


@pytest.mark.parametrize("name", EXAMPLES)
def test_everywhere(name):
    text = Path(f"examples/{name}.attn").read_text()
    document = Document("file:///nowhere/some.attn", text)
    for offset in range(0, len(text), 7):
        definition(document, offset)
        completion(document, offset)


def test_every_example_has_no_mistakes_and_answers():
    for path in [*Path("examples").rglob("*.attn"), Path("grammar/std.attn")]:
        text, positions = path.read_text(), random.Random(path.stem)
        document = Document(path.resolve().as_uri(), text)
        assert diagnose(document) == [], path
        for offset in positions.sample(range(len(text)), 12):
            ask_about(document, offset)


@pytest.mark.parametrize(
    "text", ["", "\n", "}", '"', "pattern", "use", 'use "', "\x00", "(" * 300, "stack s(n = 1) = s(n)"]
)
def test_odd_texts(text):
    ask_everything(text, len(text))


def test_what_is_not_half_typed_is_understood():
    good = "def f(a) = a\npattern p(n = 4) { space t[n] attend causal }\n"
    for bad in (
        "pattern r(n) {\n    space t[n]\n    attend q.\n",
        "pattern r(\n",
        "pattern r(n) {\n    attend window(\n}\n",
    ):
        for text in (good + bad, bad + good):
            names = [each.name.id for each in parse(Source("", readable(text))).declarations]
            assert {"f", "p"} <= set(names), text


def test_long_texts_are_read_but_hardly_repaired():
    declaration = "def some_macro(a, b) = a + b  # as long as most\n"
    text = declaration * 30
    assert readable(text) == text and readable(text + "def\n").startswith(text)
    long = "# a line of a comment\n" * 10_000 + declaration
    assert readable(long) == long and readable(long + "def\n") == ""


def test_places_in_units_of_the_protocol():
    text = "aé\U0001d11eb\r\nc\rd\n\ne"
    lines = Lines(text)
    assert [lines.position(offset) for offset in (0, 2, 3, 6, 8, 10, 11, 12)] == [
        *((0, 0), (0, 2), (0, 4), (1, 0), (2, 0), (3, 0), (4, 0), (4, 1))
    ]
    for offset in (0, 1, 2, 3, 6, 7, 8, 11, 12):
        assert lines.offset(*lines.position(offset)) == offset
    assert lines.offset(0, 99) == 4 and lines.offset(99, 0) == len(text)

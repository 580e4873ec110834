"""Words of branches, scores, pools and lists in editors, the formatter and explanations."""

import asyncio
import re

import pytest
from pygments.token import Keyword, Name

import maskdsl
from maskdsl.base.source import Source
from maskdsl.syntax.format import format_file
from maskdsl.syntax.highlight import AttnLexer
from maskdsl.syntax.parse import parse
from maskdsl.view.language_server import words
from maskdsl.view.language_server.completion import completion
from maskdsl.view.language_server.documents import Document
from maskdsl.view.language_server.hover import hover
from maskdsl.view.language_server.measure import Measurements
from tests.support.every_word import SEEN

EVERYWHERE = pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)


@EVERYWHERE
def test_editors(seen) -> None:
    document = Document("file:///word.attn", seen.text)
    for piece, said in seen.hover.items():
        found = asyncio.run(hover(document, seen.text.index(piece), Measurements()))
        assert found is not None and said in found[0], (piece, found)
    for piece, offered in seen.completion.items():
        found = completion(document, seen.text.index(piece) + len(piece))
        assert offered <= {each.label for each in found}, piece


@EVERYWHERE
def test_formatter(seen) -> None:
    """Texts stay, and come back from a single line."""
    comments = re.findall(r"(?m)^##.*\n", seen.text)
    line = re.sub(r"\s+", " ", seen.text.replace("".join(comments), ""))
    for text in (seen.text, "".join(comments) + line):
        formatted = format_file(parse(Source("word.attn", text)))
        assert formatted.split() == seen.text.split()
    assert format_file(parse(Source("word.attn", seen.text))) == seen.text


@EVERYWHERE
def test_explanations(seen) -> None:
    explained = str(maskdsl.parse(seen.text)["p"].bind(heads=2).explain(*seen.pair, **seen.inputs))
    for part in seen.explained:
        assert part in explained


def test_colours() -> None:
    """Statements are keywords, and the language's own names are seen as such."""
    for word in ("branch", "sink", "value", "normalize", "weight"):
        ((_, token, _),) = [each for each in AttnLexer().get_tokens_unprocessed(f"{word} x") if each[2] == word]
        assert token in Keyword, word
    for word in words.RESERVED:
        ((_, token, _),) = [each for each in AttnLexer().get_tokens_unprocessed(f"score {word} + 1") if each[2] == word]
        assert token is Name.Builtin.Pseudo, word


def test_no_word_is_left_out() -> None:
    texts = " ".join(seen.text for seen in SEEN.values())
    known = {*words.RESERVED, *words.OF_POOLS, *words.NORMALIZATIONS, *words.SPARSE_TYPE, "where", "by", "draw", "dot"}
    for word in known | {"branch", "sink", "value", "normalize", "weight", "score"}:
        assert re.search(rf"\b{word}\b", texts), word

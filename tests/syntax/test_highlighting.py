"""Editors and Pygments see the words of every example as the language does: keywords, names, numbers, comments."""

import json
import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from pygments.token import Comment, Keyword, Name, Number, Operator, String

from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.highlight import AttnLexer
from maskdsl.syntax.mistakes import DECLARATION_WORDS, RESERVED_WORDS, STATEMENT_WORDS
from maskdsl.syntax.parse import parse
from maskdsl.view.language_server.nodes_at import children
from tests.syntax.textmate import scopes

GRAMMAR = json.loads(Path("grammar/attn.tmLanguage.json").read_text())
TEXTS = {path.stem: path.read_text() for path in [*Path("examples").rglob("*.attn"), Path("grammar/std.attn")]}
TEXTS |= {
    f"language.md {number}": text
    for number, text in enumerate(re.findall(r"```attn\n(.*?)```", Path("docs/language.md").read_text(), re.DOTALL))
}
TEXTS["words as names"] = """
pattern order(tokens = 4, input = 2) {
    space keys[tokens]  # a comment: attend pattern 4
    coord order = keys // input
    coord score = order * 2
    let weight = "use \\" attend # 4"
    attend q.order == k.order - 1 or q.score <k.order
    require
        input > 1
    score -s * 0.5 + 1e-3
    order keys auto
    order by order
    assert True, "4 attend"
}
stack auto(n = 1_000) = 2 * order(n, input = 3)
"""
KEYWORDS = DECLARATION_WORDS | STATEMENT_WORDS | RESERVED_WORDS | {"auto", "always"}
WORD = re.compile(r'#[^\n]*|"(?:[^"\\]|\\.)*"|[A-Za-z_]\w*|[0-9][\w.]*(?<=\w)(?:(?<=[eE])-[0-9]+)?')


def names(node):
    """Where names stand."""
    if isinstance(node, tree.Name):
        yield node.span.start
    for child in children(node):
        yield from names(child)


def words(text):
    """Where every word begins, and what kind it is by the grammar proper."""
    named = set(names(parse(Source("", text))))
    for match in WORD.finditer(text):
        word = match[0]
        if word[0] in '#"':
            yield match.start(), word, "comment" if word[0] == "#" else "string"
        elif word[0].isdigit():
            yield match.start(), word, "number"
        elif word in ("any", "all", "sum") or word not in KEYWORDS or match.start() in named:
            yield match.start(), word, "name"
        else:
            yield match.start(), word, "keyword"


def kind_of_scope(scope):
    if scope.startswith(("keyword", "constant.language")):
        return "keyword"
    for part, kind in (("comment", "comment"), ("string", "string"), ("constant.numeric", "number")):
        if scope.startswith(part):
            return kind
    return "name"


def kind_of_token(token):
    for kind, tokens in (
        ("string", (String.Escape,)),
        ("comment", (Comment, String.Doc)),
        ("string", (String,)),
        ("number", (Number,)),
        ("name", (Keyword.Type, Name)),
        ("keyword", (Keyword, Operator.Word)),
    ):
        if any(token in each for each in tokens):
            return kind
    return str(token)


@pytest.mark.parametrize("name", TEXTS)
def test_words_are_seen_alike(name):
    text = TEXTS[name]
    expected = list(words(text))
    textmate = scopes(GRAMMAR, text)
    assert [(at, word, kind_of_scope(textmate[at])) for at, word, _ in expected] == expected
    pygments = {at: token for at, token, _ in AttnLexer().get_tokens_unprocessed(text)}
    assert [(at, word, kind_of_token(pygments[at])) for at, word, _ in expected] == expected
    assert "".join(value for _, _, value in AttnLexer().get_tokens_unprocessed(text)) == text


def test_keywords_are_keywords_for_both():
    for word in KEYWORDS:
        sample = {"use": 'use "x"', "auto": "order auto", "def": "def f", "pattern": "pattern f", "stack": "stack f"}
        text = sample.get(word, f"{word} name")
        at = text.index(word)
        assert kind_of_scope(scopes(GRAMMAR, text)[at]) == "keyword", word
        assert kind_of_token({at: token for at, token, _ in AttnLexer().get_tokens_unprocessed(text)}[at]) == "keyword"


def test_pygments_finds_it():
    declared = tomllib.loads(Path("pyproject.toml").read_text())["project"]["entry-points"]["pygments.lexers"]
    module, name = declared["attn"].split(":")
    assert getattr(import_module(module), name) is AttnLexer and AttnLexer.aliases == ["attn"]

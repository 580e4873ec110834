"""What the language has is drawn: a construct that is new, and that no random program has, fails here."""

import re
from collections.abc import Callable
from pathlib import Path

import lark

from maskdsl.view.language_server import words
from tests.independent.drawing import draw
from tests.independent.meaning import STANDARD
from tests.independent.reader import Reader

ROOT = Path(__file__).parents[2]
GRAMMAR = (ROOT / "grammar" / "attn.lark").read_text()
LANGUAGE = (ROOT / "docs" / "language.md").read_text()
PROGRAMS = 1000
"""As many as are drawn at most, until all is found."""
NOT_DRAWN = {"group_length"}
"""Words of the language. `group_length` is a part of `neighborhood`, which is drawn.

What is drawn of no program, as it is no word: `use` of files in other directories, texts that are errors
(`hostile.py` and `tests/errors` have them), and warnings.
"""


def not_found(known: set[str], of_text: Callable[[str], set[str]]) -> set[str]:
    """What no program has."""
    missing = set(known)
    for seed in range(PROGRAMS):
        drawn = draw(seed)
        for text in (drawn.text, *drawn.files.values()):
            missing -= of_text(text)
        if missing <= NOT_DRAWN:
            break
    return missing


def all_words() -> set[str]:
    """Keywords, marks, names that mean something, functions, types, dimensions, and the standard library."""
    kinds = words.KEYWORDS, words.OPERATORS, words.RESERVED, words.CALLED, words.TYPES, words.SPARSE_TYPE
    return {word for kind in kinds for word in kind} | {"dim", "_"} | {*STANDARD.macros, *STANDARD.patterns}


def test_every_word_of_the_language_is_explained() -> None:
    explained = set(re.findall(r"\w+|[^\w\s`]+", LANGUAGE))
    assert all_words() - explained == set()


def test_every_word_of_the_language_is_drawn() -> None:
    known = all_words()
    rules = "\n".join(line for line in GRAMMAR.splitlines() if not re.search(r": /|^//", line))
    marks = set(re.findall(r'"([^"\w\s]+)"', rules))
    assert "->" in marks and "." in marks and "topk" in known
    assert not_found(known | marks, lambda text: {word for _, word in Reader(text).words}) == NOT_DRAWN


def test_every_rule_of_the_grammar_is_drawn() -> None:
    grammar = lark.Lark(GRAMMAR, parser="lalr", start="file")
    rules = {rule.alias or rule.origin.name for rule in grammar.rules if rule.alias or not rule.options.expand1}
    known = {name for name in rules if not name.startswith("_")}
    assert not not_found(known, lambda text: {tree.data for tree in grammar.parse(text).iter_subtrees()})

"""What the language has is drawn: a construct that is new, and that no random program has, fails here."""

import re
from collections.abc import Callable
from pathlib import Path

import lark

from maskdsl.view.language_server import words
from tests.independent.drawing import draw
from tests.independent.held import is_same
from tests.independent.meaning import STANDARD
from tests.independent.reader import Reader
from tests.independent.truth import truth_of

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


FORMS = (
    *(r"normalize none", r"normalize softmax by k", r"normalize softmax by q", r"weight -", r"\n +sink "),
    *(r"value [^\n]*\bv\b", r"score [^\n]*\bdot\(", r"score [^\n]*\bdot\([^\n]*(mean|max|sum|root)\([qk] by"),
    *(r"score [^\n]*\bdot\([^\n]*\bif\b", r"dot\(q\.code, k\.code\)", r"\n +queries [^\n]*coarse", r"by of_coarse, "),
    *(r"space \w+\[(\w = )?0\b", r"\[(batch, )?key_heads, ", r"\[(batch, )?key_head, [qk] // 2 \* 2\]", r"2 \*\* head"),
    *(r"softmax\(.* where ", r" always ", r", span = 2\)", r"weights = ", r"reach = False", r"per = \(batch, k"),
    *(r"per = k", r"by \(q(\.\w+)?, k(\.\w+)?\)", r"by q\.\w+[,)]", r"by k\.\w+[,)]", r"\b1 \+ q\.\w+ // 2"),
    *(r"topk\(head \+ 1, ", r"\(dot\([^q\n]*\bk\b[^q\n]*, probe", r"\bmin\(\w+, per = batch\)"),
    *(
        r"span = 3\)",
        r"share\[batch, j, q\] \* max\(dot\(several",
        r"topk\([^\n]*\bgate_a\d\[",
        r"where [^\n]*\(a0 or ",
    ),
    *(r"\n +route of_branch_\d = ", r"\+ 0\.1 \* head", r"- 0\.2 \* head", r"let a\d_\d = max\([qk], 0\.0\)\n"),
    *(r"sizes\[head\]", r"branch \w+ for o in", r"= draw\([^\n]* where ", r"sparse\[", r"\bedge\]", r"\bdim\)"),
)
"""What has words of its own in no list: how it is written, as patterns of `re`."""


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


def test_every_form_is_drawn() -> None:
    drawn = "\n".join(draw(seed).text for seed in range(600))
    assert [form for form in FORMS if not re.search(form, drawn)] == []


def test_calls_drop_pairs_and_share_sides() -> None:
    """Some programs are called with dropout, and some inputs are the same along an axis that has a side of 1 then."""
    drawn = [draw(seed) for seed in range(40)]
    truths = [truth_of(each, seed, infinite=False) for seed, each in enumerate(drawn)]
    assert 0 < sum(each.dropout is not None for each in truths) < len(truths) / 2
    shared = [
        name
        for each in truths
        for name, x in each.inputs.items()
        for axis in each.meaning.shared_axes(name)
        if x.shape[axis] > 1 and is_same(x, axis)
    ]
    assert len(shared) > 5


def test_every_rule_of_the_grammar_is_drawn() -> None:
    grammar = lark.Lark(GRAMMAR, parser="lalr", start="file")
    rules = {rule.alias or rule.origin.name for rule in grammar.rules if rule.alias or not rule.options.expand1}
    known = {name for name in rules if not name.startswith("_")}
    assert not not_found(known, lambda text: {tree.data for tree in grammar.parse(text).iter_subtrees()})

"""Laws of relations: written in two ways they attend the same pairs; and plain ones mean what Python says."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl import parse
from maskdsl.testing import relations
from tests.support.drawn import examples
from tests.support.properties import cases, check_clauses, check_simplify

AXES = {"y": 4, "x": 5}
SPACES = {"text": {"text": 4}, "image": AXES}
HEADS = 2

LAWS = {
    "De Morgan, and": ("not (a and b)", "not a or not b"),
    "De Morgan, or": ("not (a or b)", "not a and not b"),
    "double negation": ("not not a", "a"),
    "absorption, and": ("a and (a or b)", "a"),
    "absorption, or": ("a or a and b", "a"),
    "distribution": ("a and (b or c)", "a and b or a and c"),
    "commutation": ("a and b", "b and a"),
    "association": ("a or (b or c)", "a or b or c"),
    "excluded middle": ("a or not a", "all -> all"),
    "contradiction": ("a and not a", "False"),
    "choice": ("a if c else b", "c and a or not c and b"),
    "negated choice": ("not (a if c else b)", "not a if c else not b"),
    "where": ("(image -> text where a and b) or c", "image -> text and a and b or c"),
    "same as a comparison": ("(a) == (b)", "a and b or not a and not b"),
}


def dense(line: str) -> np.ndarray:
    """bool [heads, queries, keys]."""
    spaces = " ".join(
        f"space {name}[{', '.join(f'{axis} = {length}' for axis, length in axes.items())}]"
        for name, axes in SPACES.items()
    )
    text = f"pattern p() {{ {spaces} tokens text ++ image {line} }}"
    mask = parse(text)["p"].bind(heads=HEADS)
    return np.array([mask.dense(head) for head in range(HEADS)])


@pytest.mark.parametrize(("one", "other"), LAWS.values(), ids=LAWS)
@settings(max_examples=examples(15))
@given(*[relations(SPACES, heads=HEADS, depth=1)] * 3)
def test_law(one: str, other: str, a: str, b: str, c: str) -> None:
    drawn = {"a": f"({a})", "b": f"({b})", "c": f"({c})"}
    written = [re.sub(r"\b[abc]\b", lambda name: drawn[name[0]], side) for side in (one, other)]
    np.testing.assert_array_equal(*(dense(f"attend {side}") for side in written))


@settings(max_examples=examples(50))
@given(*[relations(SPACES, heads=HEADS, depth=1)] * 4)
def test_lines_add_up_and_cut_down(a: str, b: str, c: str, d: str) -> None:
    lines = dense(f"attend {a} attend {b} require {c} require {d}")
    np.testing.assert_array_equal(lines, dense(f"attend (({a}) or ({b})) and (({c}) and ({d}))"))
    np.testing.assert_array_equal(
        lines, (dense(f"attend {a}") | dense(f"attend {b}")) & dense(f"attend {c}") & dense(f"attend {d}")
    )


@settings(max_examples=examples(100))
@given(cases())
def test_simplifying_keeps_every_value(case):
    check_simplify(case)


@settings(max_examples=examples(100))
@given(cases())
def test_clauses_make_the_relation(case):
    check_clauses(case)


# Python's meaning

PYTHON = {"abs", "min", "max", "clamp", "ilog2", "is_power_of_two", "float", "head", "heads", "q", "k", "i", "y", "x"}
PYTHON |= {"floor", "round", "int"}
PYTHON |= {"and", "or", "not", "if", "else", "True", "False", "for", "in"}


class Token(int):
    """A position with coordinates, as Python evaluates `q + 1` and `q.y`."""

    def __new__(cls, i):
        token = super().__new__(cls, i)
        token.i, (token.y, token.x) = i, divmod(i, AXES["x"])
        return token


def is_python(text: str) -> bool:
    return "->" not in text and ".." not in text and set(re.findall(r"[A-Za-z_]\w*", text)) <= PYTHON


def evaluated(text: str) -> np.ndarray:
    code = compile(text, "<relation>", "eval")
    names = {
        "clamp": lambda x, low, high: min(max(x, low), high),
        "ilog2": lambda x: max(int(x), 0).bit_length() - 1,
        "is_power_of_two": lambda x: int(x).bit_count() == 1 and x > 0,
        "floor": math.floor,
        "heads": HEADS,
    }
    tokens = range(AXES["y"] * AXES["x"])
    return np.array(
        [
            [[eval(code, {**names, "head": head, "q": Token(q), "k": Token(k)}) for k in tokens] for q in tokens]
            for head in range(HEADS)
        ]
    )


@settings(max_examples=examples(100))
@given(relations({"image": AXES}, heads=HEADS, depth=2).filter(is_python))
def test_plain_relations_mean_what_python_says(text):
    mask = parse(f"pattern p() {{ space image[y = 4, x = 5] attend {text} }}")["p"].bind(heads=HEADS)
    np.testing.assert_array_equal([mask.dense(head) for head in range(HEADS)], evaluated(text))


@settings(max_examples=examples(100))
@given(st.data())
def test_unequal_relations_are_those_of_which_one_holds(data):
    one, other = (data.draw(relations({"image": AXES}, depth=0)) for _ in range(2))
    mask = parse(f"pattern p() {{ space image[y = 4, x = 5] attend ({one}) != ({other}) }}")["p"].bind()
    parts = [
        parse(f"pattern p() {{ space image[y = 4, x = 5] attend {each} }}")["p"].bind().dense() for each in (one, other)
    ]
    np.testing.assert_array_equal(mask.dense(), parts[0] ^ parts[1])

"""Files of the first version of the language, and what `maskdsl fmt --upgrade` makes of them."""

import pytest

import maskdsl
from maskdsl.base.source import Source
from maskdsl.syntax.build import FIRST_BUILDERS
from maskdsl.syntax.format import format_file
from maskdsl.syntax.parse import parse
from maskdsl.syntax.upgrade import upgraded

LINES = {
    "route r = topk(2, dot(q, mean(k, c)))": "route r = topk(2, dot(q, mean(k by c)))",
    "route r = topk(2, dot(sum(q, i, key_head), max(k, c)))": (
        "route r = topk(2, dot(sum(q by i, heads = key_head), max(k by c)))"
    ),
    "route r = topk(2, dot(q, root(k where c > 1, c, head // 2)))": (
        "route r = topk(2, dot(q, root(k where c > 1 by c, heads = head // 2)))"
    ),
    "route r = topp(0.5, dot(q, k), over = head)": "route r = topp(0.5, dot(q, k), per = head)",
    "attend t -> t where q < k or k < 3": "attend (t -> t where q < k) or k < 3",
    "attend t -> t where q < k if head < 2 else q == k": "attend (t -> t where q < k) if head < 2 else q == k",
    "attend k < 3 or t -> t where q < k and k < 9 or q == 1": (
        "attend k < 3 or (t -> t where q < k and k < 9) or q == 1"
    ),
    "attend not t -> t where q < k": "attend (not t -> t) where q < k",
    "attend max(k, q) < 3 or max(k, n) < 9": "attend max(k, q) < 3 or max(k, n) < 9",
}
"""Lines of the first version, and of this one."""


def text_of(line: str) -> str:
    return f"pattern p(n = 24) {{\n    space t[n]\n    coord c = i // 3\n    {line}\n}}\n"


def upgrade(text: str) -> str:
    return format_file(upgraded(parse(Source("old.attn", text), FIRST_BUILDERS)))


@pytest.mark.parametrize("line", LINES)
def test_lines(line: str) -> None:
    """Formatted, upgraded once, and of a meaning: what is new is not changed again."""
    new = upgrade(text_of(line))
    assert " ".join(new.split()) == " ".join(text_of(LINES[line]).split())
    assert format_file(parse(Source("new.attn", new))) == upgrade(new) == new
    body = new if "attend" in line else new.replace("\n}", "\n    attend r\n}")
    assert maskdsl.parse(body)["p"].bind(heads=2).heads == 2


def test_comments_stay() -> None:
    old = text_of("route r = topk(  # two\n  2, dot(q, mean(k, c)))  # chunks\n    attend r  # all")
    assert [word in upgrade(old) for word in ("# two", "# chunks", "# all", "mean(k by c)")] == [True] * 4

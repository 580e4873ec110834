"""Rows of tiles in closed form against the exact tiles, at every row and column."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.analysis.closed.closed_form import Limit, closed_limits
from maskdsl.ir.expressions import Constant, Coordinate, Expression, Head, Side, substitute
from maskdsl.ir.facts.ranges import Range, expression_range
from tests.support.drawn import examples

CLOSED = [
    "causal",
    "window(9)",
    "window(9) and causal",
    "q.t // 8 == k.t // 8",
    "q.t // 8 >= k.t // 8 and q.t - k.t < 40",
    "abs(q.t * 3 // 2 - k.t) < 6",
    "k.t + q.t < 50",
    "0 <= q.t - k.t and q.t - k.t < 4 * (head + 1)",
    "3 * k.t <= 2 * q.t + 7",
    "k.t // 4 - q.t // 8 == 2",
]
OPEN = [
    "causal or k.t < 4",
    "(q.t - k.t) % 3 == 0",
    "q.t != k.t",
    "abs(q.t - k.t) > 3",
    "random(1, q.t, k.t) % 2 == 0",
    "abs(q.t - 20) >= k.t",
    "q.t * k.t < 90",
]


def pattern(relation: str) -> maskdsl.Pattern:
    return maskdsl.parse(f"pattern p(n = 61) {{ space t[n]  attend {relation} }}")["p"]


def value(expression: Expression, side: Side, index: int, head: int) -> int:
    known: dict[Expression, Expression] = {Coordinate(side, "i"): Constant(index), Head(): Constant(head)}
    return expression_range(substitute(expression, known), lambda leaf: Range(0, 0)).low


def ends(limits: tuple[Limit, ...], side: Side, first: int, last: int, head: int) -> list[tuple[int, int]]:
    """The least and the greatest of each limit over a block of tokens."""
    both = [[value(limit.value, side, index, head) for index in (first, last)] for limit in limits]
    return [(low, high) if limit.rises else (high, low) for limit, (low, high) in zip(limits, both, strict=True)]


def check(mask: maskdsl.Mask, side: Side, sizes: tuple[int, int], exact: bool) -> None:
    """Whole blocks between the limits are those of the exact tiles, or at worst more partial ones."""
    limits = closed_limits(mask.ir, side)
    assert limits is not None
    own, other = sizes
    block = sizes if side is Side.QUERY else (other, own)
    for head in range(mask.heads):
        classes = mask.tiles(block).classes(head=head)
        classes = classes if side is Side.QUERY else classes.T
        for row, found in enumerate(classes):
            first, last = row * own, min(row * own + own, 61) - 1
            low, high = (ends(each, side, first, last, head) for each in (limits.low, limits.high))
            for column, kind in enumerate(found):
                start, end = column * other, min(column * other + other, 61) - 1
                live = all(end >= least for least, _ in low) and all(start <= most for _, most in high)
                full = all(start >= most for _, most in low) and all(end <= least for least, _ in high)
                assert not full or kind == 2
                assert live or kind == 0
                if exact:
                    assert (live, full) == (kind > 0, kind == 2), (row, column)


@pytest.mark.parametrize("side", [Side.QUERY, Side.KEY])
@pytest.mark.parametrize("relation", CLOSED)
def test_closed_forms_agree_with_exact_tiles(relation: str, side: Side) -> None:
    for sizes in ((8, 8), (16, 4), (1, 1), (7, 13)):
        check(pattern(relation).bind(heads=3), side, sizes, exact="3 // 2" not in relation and "3 *" not in relation)


@pytest.mark.parametrize(
    ("relation", "side"),
    [("max(q.t, 10) >= k.t and k.t >= min(q.t, 30) - 5", Side.QUERY), ("q.t < 20", Side.KEY)],
)
def test_one_side_may_have_a_closed_form_alone(relation: str, side: Side) -> None:
    mask = pattern(relation).bind()
    check(mask, side, (8, 8), exact=True)
    assert closed_limits(mask.ir, Side.KEY if side is Side.QUERY else Side.QUERY) is None


@pytest.mark.parametrize("relation", OPEN)
def test_what_has_no_closed_form(relation: str) -> None:
    assert closed_limits(pattern(relation).bind().ir, Side.QUERY) is None


def test_no_closed_form_where_order_spaces_or_inputs_have_a_say() -> None:
    texts = [
        "pattern p(n = 64) { space t[n]  attend causal  order by t % 4 }",
        "pattern p(n = 64) { space t[n]  input d: int[batch, tokens]  attend same(d) }",
        "pattern p(n = 64) { space a[n]  space b[n]  tokens a ++ b  attend q.i <= k.i }",
    ]
    for text in texts:
        assert closed_limits(maskdsl.parse(text)["p"].bind().ir, Side.QUERY) is None


def test_coordinates_are_seen_through() -> None:
    text = "pattern p(n = 61) { space t[n]  coord b = t // 8  coord c = b * 2  attend q.c >= k.c }"
    check(maskdsl.parse(text)["p"].bind(), Side.KEY, (8, 8), exact=True)


def test_large_relations_are_left_to_lists() -> None:
    few, many = (" and ".join(f"q.t - {n} * k.t < 5" for n in range(1, count)) for count in (10, 60))
    assert closed_limits(pattern(few).bind().ir, Side.QUERY) is not None
    assert closed_limits(pattern(many).bind().ir, Side.QUERY) is None


terms = st.sampled_from(["q.t", "k.t", "q.t // 3", "k.t // 5", "2 * k.t", "3 * q.t", "head", "4", "17"])
sides = st.recursive(terms, lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-"), inner))
wholes = st.builds("{} {} {}".format, sides, st.sampled_from(["<=", "<", "==", ">="]), sides)


@settings(max_examples=examples(150))
@given(st.lists(wholes, min_size=1, max_size=3), st.sampled_from([Side.QUERY, Side.KEY]))
def test_random_closed_forms_lose_nothing(parts: list[str], side: Side) -> None:
    mask = pattern(" and ".join(parts)).bind(heads=2)
    if closed_limits(mask.ir, side) is not None:
        check(mask, side, (8, 4), exact=False)

"""What tokens say in digits of their position, and limits on grids and in orders, against all pairs."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.analysis.closed.closed_form import Limits, closed_limits
from maskdsl.analysis.closed.digits import DigitSum, digit_sum, stretch_length
from maskdsl.api.verify import draw
from maskdsl.ir.expressions import PAIR, Constant, Coordinate, Expression, Head, Side
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.numpy_operators import constant_array, evaluate
from tests.support.drawn import examples

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.attn"))

# Digits


@given(
    st.lists(st.tuples(st.integers(2, 5), st.integers(-50, 50)), min_size=1, max_size=4),
    st.integers(-9, 9),
    st.integers(1, 700),
)
def test_sums_of_digits_are_read_off_values(digits: list[tuple[int, int]], start: int, length: int) -> None:
    """Of digits of these sizes, the last one first, times these factors: also where the first one is cut short."""
    positions, step = np.arange(length), 1
    values = np.full(length, start)
    for number, (size, factor) in enumerate(digits):
        digit = positions // step
        values = values + factor * (digit % size if number < len(digits) - 1 else digit)
        step *= size
    found = digit_sum(values)
    assert found is not None
    assert np.array_equal(written(found, positions), values)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_sums_of_digits_are_the_values(values: list[int]) -> None:
    found = digit_sum(np.array(values))
    assert found is None or np.array_equal(written(found, np.arange(len(values))), values)


def written(digits: DigitSum, positions: np.ndarray) -> np.ndarray:
    return digits.start + sum((factor * (positions // step) for factor, step in digits.terms), np.zeros_like(positions))


def test_what_is_no_sum_of_digits() -> None:
    assert digit_sum(np.arange(0)) is None
    assert digit_sum(np.array([0, 1, 0, 1, 1, 0])) is None
    assert digit_sum(np.array([0, 0, 1, 1, 1, 0])) is None
    assert digit_sum(np.array([0, 2**40])) is None
    assert digit_sum(np.array([7])) == DigitSum(7, ())


@given(st.lists(st.integers(0, 2), min_size=1, max_size=9), st.integers(1, 3))
def test_stretches_are_as_long_as_tokens_are_equal(values: list[int], repeats: int) -> None:
    columns = np.repeat(np.array(values), repeats)[:, None]
    found, index = stretch_length(columns), np.arange(len(columns))
    equal = columns == columns.T
    lengths = (each for each in range(1, len(columns) + 1))
    assert found == next((each for each in lengths if (equal == (index // each == index[:, None] // each)).all()), None)


# Limits


def interval(limits: Limits, side: Side, length: int, head: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last of the other tokens of each token, which is none where the last is less."""

    def values(value: Expression) -> np.ndarray:
        leaves = {Coordinate(side, "i"): np.arange(length), Head(): constant_array(Constant(head))}
        return np.broadcast_to(evaluate(value, leaves.__getitem__, {}), (length,))

    both = []
    for each in (limits.low, limits.high):
        found = [values(limit.value) for limit in each]
        for limit, line in zip(each, found, strict=True):
            assert (np.diff(line) >= 0 if limit.rises else np.diff(line) <= 0).all(), print_expression(limit.value)
        both.append(found)
    low, high = both
    zero, most = np.zeros(length, np.int64), np.full(length, 1 << 40)
    return np.maximum.reduce([zero, *low]), np.minimum.reduce([most, *high])


def check(mask: MaskIR) -> list[bool]:
    """Whether each side has limits. These are of all tokens of its pairs and of no others, for each head."""
    sides = [closed_limits(mask, side) for side in PAIR]
    if sides == [None, None]:
        return [False, False]
    orders = [Coordinates(mask, each, {}).permutation() for each in (mask.queries, mask.keys)]
    for head in range(mask.heads):
        attends = np.asarray(dense(mask, head, 0, {}))
        for axis, order in enumerate(orders):
            attends = attends if order is None else np.take(attends, order, axis=axis)
        for side, limits, pairs in zip(PAIR, sides, (attends, attends.T), strict=True):
            if limits is not None:
                low, high = interval(limits, side, len(pairs), head)
                others = np.arange(pairs.shape[1])
                assert np.array_equal((low[:, None] <= others) & (others <= high[:, None]), pairs), side
    return [limits is not None for limits in sides]


def bound(space: str, relation: str, order: str = "") -> MaskIR:
    return maskdsl.parse(f"pattern p() {{ space s[{space}]  attend {relation}  {order} }}")["p"].bind().ir


VIDEO, IMAGE = "t = 3, y = 4, x = 8", "y = 8, x = 16"
CLOSED = [
    # On a grid
    (VIDEO, "k.t <= q.t", ""),
    (VIDEO, "0 <= q.t - k.t and q.t - k.t < 2", ""),
    (VIDEO, "same(t)", ""),
    (VIDEO, "same(t) and same(y)", ""),
    (VIDEO, "same(t) and abs(q.y - k.y) <= 1", ""),
    (VIDEO, "same(t) and same(y) and abs(q.x - k.x) <= 2", ""),
    (VIDEO, "same(t) and causal", ""),
    (VIDEO, "same(t) and q.y + 1 == k.y", ""),
    (VIDEO, "same(t) and q.y // 2 == k.y // 2", ""),
    (VIDEO, "q.t * 4 + q.y == k.t * 4 + k.y", ""),
    ("y = 5, x = 6", "q.y // 2 == k.y // 2", ""),
    ("t = 3, y = 1, x = 5", "same(x) and same(t)", ""),
    (VIDEO, "k.t <= q.t and abs(q.y - k.y) < 4 and q.x < 8 and 0 <= k.y", ""),
    # In an order
    (VIDEO, "same(y) and same(x)", "order by y, x"),
    (VIDEO, "same(y) and same(x) and abs(q.t - k.t) <= 1", "order by y, x"),
    (VIDEO, "k.x <= q.x", "order by x"),
    (VIDEO, "k.t <= q.t", "order by t, hilbert(y, x)"),
    (VIDEO, "same(x) and same(y) and k.t <= q.t", "order by hilbert(y, x)"),
    (IMAGE, "q.y // 4 == k.y // 4 and q.x // 4 == k.x // 4", "order by y // 4, x // 4"),
    (IMAGE, "q.y // 4 == k.y // 4 and q.x // 4 == k.x // 4", "order by x // 4, y // 4"),
    (IMAGE, "q.y // 4 == k.y // 4 and abs(q.x // 4 - k.x // 4) <= 1", "order by y // 4, x // 4"),
    (IMAGE, "q.y // 4 == k.y // 4 and q.x // 2 == k.x // 2", "order by y // 4, x // 4, x // 2"),
    ("y = 8, x = 8", "q.y // 4 == k.y // 4 and q.x // 4 == k.x // 4", "order by hilbert(y, x)"),
    (IMAGE, "(q.y - k.y) % 4 == 0 and (q.x - k.x) % 4 == 0", "order by y % 4, x % 4"),
    ("y = 7, x = 8", "q.y // 4 == k.y // 4", "order by y // 4, x"),
    ("s = 24", "abs(q.place - k.place) <= 3", "coord place = shuffle(i, 1)  order by place"),
    ("s = 24", "q.s % 4 == k.s % 4", "order by s % 4"),
    # On a line, of every length
    ("s = 61", "q.s // 8 == k.s // 8 and q.s % 8 // 4 == k.s % 8 // 4", ""),
]
BY_QUERY = [
    (VIDEO, "same(t) and same(y) and neighborhood(5, axis = x)", ""),
]
LISTED = [
    (VIDEO, "k.t < 2", ""),
    ("y = 6, x = 6", "(k.y + k.x) % 2 == 0", "order by (y + x) % 2"),
    (VIDEO, "same(x)", ""),
    (VIDEO, "k.y <= q.y", ""),
    (VIDEO, "same(t) and same(x)", ""),
    (VIDEO, "same(t) or same(y)", ""),
    (IMAGE, "window((3, 3))", ""),
    (IMAGE, "window((3, 3))", "order by hilbert(y, x)"),
    (IMAGE, "causal", "order by x"),
    ("y = 8, x = 12", "q.y // 4 == k.y // 4 and q.x // 5 == k.x // 5", "order by y // 4, x // 5"),  # 5, 5 and 2
    ("y = 7, x = 8", "q.y // 4 == k.y // 4 and q.x // 4 == k.x // 4", "order by y // 4, x // 4"),  # 4 rows and 3
    (IMAGE, "same(y)", "order by shuffle(i, 3)"),
    ("s = 0", "same(s)", "order by -s"),
]


@pytest.mark.parametrize(("space", "relation", "order"), CLOSED)
def test_limits_of_both_sides(space: str, relation: str, order: str) -> None:
    assert check(bound(space, relation, order)) == [True, True]


@pytest.mark.parametrize(("space", "relation", "order"), BY_QUERY)
def test_limits_of_queries_alone(space: str, relation: str, order: str) -> None:
    assert check(bound(space, relation, order)) == [True, False]


@pytest.mark.parametrize(("space", "relation", "order"), LISTED)
def test_what_needs_lists(space: str, relation: str, order: str) -> None:
    assert check(bound(space, relation, order)) == [False, False]


@pytest.mark.parametrize(
    ("space", "relation", "order", "limits"),
    [
        (VIDEO, "k.t <= q.t", "", ([], ["q // 32 * 32 + 31"])),
        (VIDEO, "same(t) and abs(q.y - k.y) <= 3", "", (["q // 32 * 32"], ["q // 32 * 32 + 31"])),
        (IMAGE, "q.y // 4 == k.y // 4 and q.x // 4 == k.x // 4", "order by y // 4, x // 4", None),
        ("y = 16, x = 8", "q.y // 4 == k.y // 4 and q.x // 4 == k.x // 4", "order by hilbert(x, y)", None),
    ],
)
def test_limits_say_nothing_twice(space: str, relation: str, order: str, limits: tuple[list[str], list[str]]) -> None:
    found = closed_limits(bound(space, relation, order), Side.QUERY)
    assert found is not None
    texts = tuple([print_expression(each.value) for each in side] for side in (found.low, found.high))
    assert texts == (limits or (["q // 16 * 16"], ["q // 16 * 16 + 15"]))


def test_inputs_and_heads_that_lay_tokens_out_need_lists() -> None:
    texts = [
        "pattern p() { space s[y = 4, x = 4]  input c: int[tokens]  attend same(y)  order by c }",
        "pattern p() { space s[y = 4, x = 4]  attend same(y)  order by x * head, y }",
        "pattern p() { space s[y = 4, x = 4]  attend q.y * head == k.y * head }",
        "pattern p() { space a[4]  space s[y = 4, x = 4]  tokens a ++ s  attend q.i <= k.i }",
    ]
    for text in texts:
        mask = maskdsl.parse(text)["p"].bind(heads=2).ir
        assert [closed_limits(mask, side) for side in PAIR] == [None, None]


def test_two_sides_of_different_grids_and_orders() -> None:
    text = """pattern p() {
        space fine[y = 8, x = 6]
        space coarse[y = 4, x = 3]
        queries fine
        keys coarse
        attend q.y // 2 == k.y and abs(q.x // 2 - k.x) <= 1
        order fine by y // 2, x // 2
    }"""
    assert check(maskdsl.parse(text)["p"].bind().ir) == [True, True]


axes = st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=3)
NAMES = ("t", "y", "x")


@st.composite
def grids(draw: st.DrawFn) -> str:
    """A pattern on a grid, mostly in an order, whose relation is a conjunction."""
    sizes = draw(axes)
    names = NAMES[-len(sizes) :]
    forms = st.sampled_from(["{}", "{}", "{} // 2", "{} // 3", "{} % 2", "{} % 4"])
    term = st.builds(str.format, forms, st.sampled_from(names))
    curves = ["shuffle(i, 3)", *(["hilbert(y, x)", "morton(y, x)"] if len(names) > 1 else [])]
    keys = draw(st.lists(st.one_of(term, term, st.sampled_from(curves)), max_size=3))

    def conjunct() -> str:
        said = draw(term)
        q, k = (f"({letter}.{said})" for letter in "qk")
        form = draw(st.sampled_from(FORMS))
        return form.format(q=q, k=k, n=draw(st.integers(0, 3)))

    relation = " and ".join(conjunct() for _ in range(draw(st.integers(1, 3))))
    space = ", ".join(f"{name} = {size}" for name, size in zip(names, sizes, strict=True))
    order = f"order by {', '.join(keys)}" if keys else ""
    return f"pattern p() {{ space s[{space}]  attend {relation}  {order} }}"


FORMS = [
    *("{q} == {k}",) * 4,
    "{k} <= {q}",
    "abs({q} - {k}) <= {n}",
    "{q} - {k} <= {n}",
    "({q} - {k}) % 2 == 0",
    "q.i >= k.i",
    "abs(q.i - k.i) <= {n}",
    "{k} <= {n}",
    "{q} + {n} == {k}",
    "2 * {k} <= {q} + head",
]


@settings(max_examples=examples(200))
@given(grids())
@pytest.mark.filterwarnings("ignore::maskdsl.base.diagnostics.AttnWarning")
def test_limits_of_random_grids(text: str) -> None:
    check(maskdsl.parse(text)["p"].bind(heads=2).ir)


@pytest.mark.filterwarnings("ignore::maskdsl.base.diagnostics.AttnWarning")
@pytest.mark.parametrize(
    ("order", "step"), [(None, 2), *(pytest.param(order, 1, marks=pytest.mark.long) for order in (None, "declared"))]
)
def test_limits_of_examples_at_small_sizes(order: str | None, step: int) -> None:
    random, closed = np.random.default_rng(1), set()
    for file in EXAMPLES[::step]:
        for name, pattern in maskdsl.load(file).items():
            case = draw(pattern, random, {})
            whole = pattern.bind(heads=case.heads, key_heads=case.key_heads, order=order, **case.parameters).ir
            closed |= {f"{file.stem}.{name}" for each in whole.branches or (whole,) if any(check(each))}
    assert len(closed) > 50 // step

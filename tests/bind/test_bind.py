"""What binding means: tuples, guards, coordinates of several spaces, `let`s, parameters from Python, orders, limits."""

import time

import numpy as np
import pytest

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.declared.sequences import Axis, PoolBoxes
from maskdsl.ir.mask_printer import print_expression, print_mask


def bound(text: str, name: str = "p", **options: object) -> maskdsl.Mask:
    return maskdsl.parse(text)[name].bind(**options)  # type: ignore[arg-type]


def relation(body: str, spaces: str = "space tokens[12]", **options: object) -> str:
    return print_expression(bound(f"pattern p() {{ {spaces} {body} }}", **options).ir.relation)


def codes(text: str, **options: object) -> list[str]:
    with pytest.raises(AttnError) as raised:
        bound(text, **options)
    return [each.code for each in raised.value.diagnostics]


IMAGE = "space image[y = 6, x = 9]"
BOTH = f"space text[5] {IMAGE} tokens text ++ image"


# The rule of tuples


def test_a_tuple_holds_on_every_axis_in_order() -> None:
    said = relation("attend window((3, 5))", IMAGE)
    assert said == relation("attend window(3, axis = y) and window(5, axis = x)", IMAGE)


def test_integers_among_tuples_serve_every_axis() -> None:
    said = relation("attend blocks((2, 3), 1)", IMAGE)
    assert said == relation("attend blocks(2, 1, y) and blocks(3, 1, x)", IMAGE)


def test_an_integer_serves_every_entry_of_a_tuple() -> None:
    text = (
        "def band(size = (2, 3)) = -size[0] <= q - k <= size[1] + len(size)\npattern p() { space a[9] attend band(%s) }"
    )
    assert print_mask(bound(text % "1").ir) == print_mask(bound(text % "(1, 1)").ir)
    assert codes(text % "True") == codes(text % "0.5") == codes(text % "q") == ["E211"]


def test_a_guard_says_which_axes_a_tuple_means() -> None:
    said = relation("attend image -> image where window((3, 5))", BOTH)
    assert said == relation("attend image -> image where window(3, axis = y) and window(5, axis = x)", BOTH)


def test_a_tuple_parameter_reaches_the_library() -> None:
    text = f"pattern p(kernel = (3, 5)) {{ {IMAGE} attend window(kernel) require window(kernel[1], axis = x) }}"
    assert print_expression(bound(text).ir.relation) == "abs(q.y - k.y) <= 1 and abs(q.x - k.x) <= 2"
    assert print_expression(bound(text, kernel=5).ir.relation) == "abs(q.y - k.y) <= 2 and abs(q.x - k.x) <= 2"
    assert bound(text, kernel=[1, 3]).ir.parameters == (("kernel", (1, 3)),)


# Guards


@pytest.mark.parametrize(
    "guarded",
    [
        "attend image -> image where q.y == k.y",
        "attend image -> image and q.y == k.y",
        "attend q.y == k.y if image -> image else q == k",
        "attend q == k if not (image -> image) else q.y == k.y",
        "attend not (image -> image) or q.y == k.y",
        "attend image -> all where (all -> image) and q.y == k.y",
        "attend all -> all where (image -> image) and same(y)",
        "attend image -> image require q.y == k.y",
        "attend all(q.y == k.y and q.a == k.a for a in (y, x)) if image -> image else True",
        "let row = q.y == k.y attend image -> image where row",
    ],
)
def test_a_guard_lets_coordinates_be_read(guarded: str) -> None:
    assert "q.y == k.y" in relation(guarded, BOTH)


@pytest.mark.parametrize(
    "unguarded",
    [
        "attend image -> all where q.y == k.y",
        "attend q.y == k.y and image -> image",
        "attend image -> image or q.y == k.y",
        "attend not (image -> image) and q.y == k.y",
        "let row = q.y == k.y attend row",
        "attend text -> text require q.y == k.y",
    ],
)
def test_without_one_they_are_not(unguarded: str) -> None:
    assert set(codes(f"pattern p() {{ {BOTH} {unguarded} }}")) == {"E208"}


def test_scores_know_the_relation() -> None:
    bound(f"pattern p() {{ {BOTH} attend image -> image score s + float(q.y - k.y) weight 1.0 / float(k.x + 1) }}")
    assert codes(f"pattern p() {{ {BOTH} attend all -> all score s + float(q.y) }}") == ["E208"]


# Coordinates


def test_a_coordinate_belongs_to_the_spaces_that_can_compute_it() -> None:
    mask = bound(f"pattern p() {{ {BOTH} coord z = y * 2 + x coord half = i // 2 attend same(half) }}")
    assert "coord image.z = y * 2 + x" in print_mask(mask.ir)
    assert "text.z" not in print_mask(mask.ir)
    assert "coord text.half = i // 2" in print_mask(mask.ir)


def test_a_coordinate_may_differ_between_spaces() -> None:
    text = f"pattern p() {{ {BOTH} coord text.row = -1 coord image.row = y attend same(row) }}"
    dense = bound(text).dense()
    row = np.array([-1] * 5 + [n // 9 for n in range(54)])
    np.testing.assert_array_equal(dense, row[:, None] == row[None, :])


def test_bare_names_are_coordinates_first() -> None:
    text = "pattern p(t = 3) { space video[t = t, x = 4] coord early = t // 2 attend same(early) order by t % 2 }"
    mask = bound(text, t=5)
    early = np.arange(20) // 4 // 2
    np.testing.assert_array_equal(mask.dense(), early[:, None] == early[None, :])


def test_lengths() -> None:
    both = "space fine[y = 8, x = 4] space coarse[y = 2, x = 4] tokens fine ++ coarse"
    said = relation("attend fine -> coarse where q.y * len(coarse.y) // len(fine.y) == k.y", both)
    assert "q.y * 2 // 8 == k.y" in said
    assert "k.y < 8" in relation("attend fine -> fine where k.y < len(y)", both)
    assert "k < 10" in relation("attend k < len(k.i)", "space a[3] space b[10] queries a keys b")
    assert "k.c < 4" in relation("coord c = i // 3 attend k.c < len(c)")


def test_let_is_an_abbreviation() -> None:
    assert relation("let size = 2 * 3 let near = abs(q - k) < size attend near") == "abs(q - k) < 6"


def test_conditions_that_are_known_choose() -> None:
    attends = "attend q % size == 0 if size > 0 else causal require size < 1 or q % size < 2"
    text = f"pattern p(size = 0) {{ space tokens[8] {attends} }}"
    assert print_expression(bound(text).ir.relation) == "k <= q"
    assert print_expression(bound(text, size=3).ir.relation) == "q % 3 == 0 and q % 3 < 2"


def test_a_route_in_a_score_is_an_error_that_says_where_it_may_stand() -> None:
    text = "pattern p() { space a[9] route r = topk(1, dot(q, k)) attend r score s + 1.0 if r else s }"
    with pytest.raises(AttnError) as raised:
        bound(text)
    (error,) = raised.value.diagnostics
    assert error.code == "E205" and error.nearest is None and "`attend`, `require`" in str(raised.value)


def test_a_macro_sees_nothing_of_its_call() -> None:
    text = "def near(axis: axis = i) = abs(q.axis - k.axis) < size pattern p(size = 3) { space tokens[8] attend near }"
    assert codes(text) == ["E205"]


def test_a_file_may_shadow_the_library() -> None:
    text = "def causal(axis: axis = i) = k.axis < q.axis pattern p() { space tokens[8] attend causal or strided(4) }"
    assert print_expression(bound(text).ir.relation).startswith("k < q or k <= q and")


# Parameters from Python


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("n = 4", 2.5),
        ("n = 4", True),
        ("n = 4", "four"),
        ("n = 4", (4, 4)),
        ("n = 4", 2**70),
        ("n: float = 4.0", "x"),
        ("n: bool = True", 1),
        ("n = (4, 4)", (4, 2.5)),
        ("n = (4, 4)", ()),
        ("n: tuple", 4),
        ("n: axis = i", 3),
        ("n: axis = i", "z"),
    ],
)
def test_a_value_that_does_not_fit(declared: str, value: object) -> None:
    text = f"pattern p({declared}) {{ space tokens[8] attend causal }}"
    assert codes(text, n=value) == ["E204"]


def test_parameters_unknown_and_missing() -> None:
    text = "pattern p(length, size = 4) { space tokens[length] attend window(size) }"
    assert sorted(codes(text, sizes=3)) == ["E202", "E203"]
    with pytest.raises(AttnError, match="did you mean `size`"):
        bound(text, length=4, sizes=3)


def test_numpy_numbers_are_numbers() -> None:
    text = "pattern p(n, cap: float = 1.0, along: axis = i) { space tokens[n] attend causal(along) score s * cap }"
    mask = bound(text, n=np.int32(5), cap=np.float32(2), along="tokens")
    assert mask.ir.parameters == (("n", 5), ("cap", 2.0), ("along", "tokens"))


def test_heads_and_patterns() -> None:
    text = "pattern causal_layer() { space tokens[8] attend causal }"
    for heads, code in ((0, "E306"), (-1, "E306"), (5000, "E306"), (True, "E460"), (2.0, "E460")):
        assert codes(text, name="causal_layer", heads=heads) == [code]
    module = maskdsl.parse(text)
    with pytest.raises(AttnError, match="did you mean `causal_layer`"):
        module["causal_layr"]
    with pytest.raises(KeyError):
        module["nothing_like_it"]
    assert module.get("nothing_like_it") is None
    assert list(module) == ["causal_layer"]
    assert "dense" in module  # of the standard library


# Orders


def test_an_order_can_be_replaced() -> None:
    text = f"pattern p() {{ {IMAGE} attend window((3, 3)) order by y // 2, x // 3 }}"
    mask = bound(text)
    assert mask.with_order("declared").ir.queries.order == ()
    assert mask.with_order("by hilbert(y, x)").ir.queries.coordinates[0].name == "hilbert(y, x)"
    assert mask.with_order("image by x").ir != mask.ir
    np.testing.assert_array_equal(mask.with_order("by x, y").dense(), mask.dense())
    with pytest.raises(AttnError, match=r"E205.*\n.*<order>:1:10"):
        mask.with_order("by z")


def test_an_order_applies_where_it_can() -> None:
    mask = bound(f"pattern p() {{ {BOTH} attend causal order by x, y }}")
    first, second = mask.ir.queries.order
    assert first == ()
    assert len(second) == 2


# Limits


@pytest.mark.parametrize(
    "text",
    [
        "pattern p(n = 60000) { space t[n] attend all(all(q != j * l for j in 0 .. 4000) for l in 0 .. 4000) }",
        "def f(x) = x + x + x + x def g(x) = f(f(f(f(f(f(f(f(x)))))))) pattern p() { space t[2] attend g(g(q)) > 0 }",
        "pattern p() { space t[4] let a = q + q let b = a + a let c = b + b let d = c + c let e = d + d let f = e + e "
        "let g = f + f let h = g + g let j = h + h let l = j + j let m = l + l let n = m + m let o = n + n "
        "let p = o + o let r = p + p let u = r + r let v = u + u let w = v + v attend w > 0 }",
        "pattern p() { space t[2000000000] coord z = i // 2 attend same(z) require k.z < len(z) }",
        "pattern p() { space t[4] attend q ** 1000000000 == 2 ** 1000000000 }",
    ],
)
def test_hostile_patterns_end_soon(text: str) -> None:
    began = time.process_time()
    codes(text)
    assert time.process_time() - began < 8


def test_a_long_chain_is_no_deep_recursion() -> None:
    chain = " or ".join(f"k == {n}" for n in range(90))
    assert bound(f"pattern p() {{ space t[100] attend {chain} }}").dense().sum() == 9000


POOLED = """
pattern p(h = 7, w = 9, n = 10) {
    space text[n]
    space image[y = h, x = w]
    space coarse = mean(image, (2, 100))
    space top = max(coarse, 2)
    space words = max(text, 4)
    queries image
    keys words ++ top ++ text
    attend all -> all
}
"""


def test_pooled_spaces() -> None:
    mask = maskdsl.parse(POOLED)["p"].bind()
    words, top, text = mask.ir.keys.spaces
    assert words.axes == (Axis("words", 3),)
    assert top.axes == (Axis("y", 2), Axis("x", 1))
    assert top.pooling is not None and top.pooling.source.pooling is not None
    assert (top.pooling.pools, top.pooling.source.pooling.pools) == (PoolBoxes((2, 1)), PoolBoxes((2, 9)))
    assert [space.name for space in mask.ir.keys.given] == ["text", "image"]
    assert (mask.key_length, mask.given_key_length) == (3 + 2 + 10, 10 + 63)
    assert text.root is text
    assert "space coarse = mean(image, (2, 9))\nspace top = max(coarse, (2, 1))\n" in print_mask(mask.ir)


@pytest.mark.parametrize(
    "values",
    [
        *({"x": value} for value in (np.nan, np.inf, -np.inf, np.float32("nan"), 10**400, "nan", None)),
        *({"n": value} for value in (10**10000, 2**70, 1.5, "8", None)),
        {"w": (1, 10**10000)},
    ],
)
def test_values_of_parameters_that_none_may_have(values) -> None:
    pattern = maskdsl.parse("pattern p(n = 8, x = 1.0, w = (2, 2)) { space t[n] attend causal score s * x }")["p"]
    with pytest.raises(maskdsl.AttnError, match="E204") as raised:
        pattern.bind(**values)
    assert len(str(raised.value)) < 500


def test_queries_and_keys_of_the_same_space_are_self_attention() -> None:
    text = "pattern p(n = 12) {{ space a[n] {} input d: int[tokens] coord c = a // 2 attend q.d == k.d order by c }}"
    both, alone = (maskdsl.parse(text.format(each))["p"].bind().ir for each in ("queries a keys a", "tokens a"))
    assert both == alone and both.self_attention

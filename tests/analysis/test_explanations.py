"""Why a pair attends: each line against the dense meaning, on random patterns and all examples, and pairs by hand."""

import random
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.analysis.reasons import key_sets
from maskdsl.analysis.reasons.explanation import Explanation, Reason
from maskdsl.analysis.reasons.pair_reasons import explain_pair
from maskdsl.ir.facts.route_candidates import most
from maskdsl.ir.meaning.evaluate import Pairs
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from tests.support.drawn import examples
from tests.support.properties import cases

EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*/*.attn"))


def check_reason(reason: Reason) -> None:
    """A condition agrees with those that it is made of."""
    holds = [each.holds for each in reason.operands]
    assert not holds or reason.holds in (all(holds), any(holds), holds[-1], not holds[0])
    for each in reason.operands:
        check_reason(each)


def check(explained: Explanation, mask, inputs) -> None:
    """Every line and the verdict agree with the dense meaning, and a line that decides is said."""
    pair = Pairs(mask, np.asarray(explained.query), np.asarray(explained.key), explained.head, 0, inputs)
    assert explained.attends == bool(pair.allowed())
    for each, branch in zip(explained.branches, mask.branches, strict=True):
        check(each, branch, inputs)
    if explained.branches:
        assert explained.deciding and not explained.lines
        return
    written = [each for each in mask.require if each.span.text.startswith("require")]
    pools = [each for each in mask.require if each not in written]  # those without tokens, where they forbid
    pools = [each for each in pools if not pair.evaluate(each.relation, np.asarray(False))]
    for line, clause in zip(explained.lines, (*mask.attend, *written, *pools), strict=True):
        assert line.reason.holds == bool(pair.evaluate(clause.relation, np.asarray(False))), line
        check_reason(line.reason)
    assert explained.deciding and str(explained).endswith(explained.verdict)
    kinds = {(line.kind, line.reason.holds) for line in explained.deciding}
    assert kinds in ([{("attend", True)}] if explained.attends else [{("attend", False)}, {("require", False)}])


@settings(max_examples=examples(25))
@given(cases(), st.data())
def test_lines_agree_with_the_pair(case, data):
    mask = case.mask
    query = data.draw(st.integers(0, mask.queries.length - 1))
    key = data.draw(st.integers(0, mask.keys.length - 1))
    head = data.draw(st.integers(0, mask.heads - 1))
    program = maskdsl.parse(case.pattern.text).program
    check(explain_pair(program, mask, query, key, head, 0, case.inputs), mask, case.inputs)


@pytest.mark.thinned(4, "path")
@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_lines_of_examples_agree_with_their_pairs(path):
    drawn = random.Random(path.stem)
    module = maskdsl.load(path)
    for name in module:
        mask = module[name].bind(heads=4).ir
        widest = most(mask)
        arrays = (
            {} if max(mask.queries.length, mask.keys.length) > 70_000 else synthetic_inputs(widest, 0, 1, 8, 1 << 24)
        )
        wanted = relation_inputs(widest)
        if not {each.name for each in widest.given if each.name in wanted} <= arrays.keys() or len(widest.routed):
            continue
        arrays = input_arrays(widest, {each: arrays[each] for each in wanted}, wanted)
        for _ in range(4):
            query = drawn.randrange(mask.queries.length)
            key = min(mask.keys.length - 1, max(0, query + drawn.choice((0, 1, -1, -40, drawn.randrange(10**6)))))
            head = drawn.randrange(4)
            explained = explain_pair(module.program, mask, query, key, head, 0, arrays)
            check(explained, widest, arrays)
            assert len(str(explained).splitlines()) <= 40 * max(len(explained.branches), 1)


VIDEO = """
pattern video(t = 8, h = 24, w = 32) {
    space text[64]
    space frames[t = t, y = h, x = w]
    tokens text ++ frames
    attend text -> all
    attend all -> text
    attend frames -> frames where neighborhood((3, 7, 7))
    require not (q == k and head == 3)
}
"""


def test_a_neighbourhood_in_words():
    mask = maskdsl.parse(VIDEO, name="video.attn")["video"].bind(heads=4)
    explained = mask.explain(100, 2000)
    assert str(explained).splitlines() == [
        "query 100   t = 0, y = 1, x = 4",
        "key   2000   t = 2, y = 12, x = 16",
        "video.attn:6  attend text -> all: the query is in `frames`  no",
        "video.attn:7  attend all -> text: the key is in `frames`  no",
        "video.attn:8  attend frames -> frames where neighborhood((3, 7, 7))  no",
        "    k.t = 2 is in 0 to 2  yes",
        "    k.y = 12 is outside 0 to 6  no",
        "    k.x = 16 is outside 1 to 7  no",
        "video.attn:9  require not (q == k and head == 3)  yes",
        "    q == k and head == 3  no",
        "        q == k: 100 == 2000  no",
        "        head == 3: 0 == 3  no",
        "query 100 does not attend key 2000: no `attend` line allows it",
    ]
    assert unescape(explained._repr_html_()) == f"<pre>{explained}</pre>"
    same = mask.explain(100, 100, head=3)
    assert not same.attends and same.verdict == "query 100 does not attend key 100: video.attn:9 forbids it"
    assert mask.explain(3, 4).verdict == "query 3 attends key 4: video.attn:6, video.attn:7 allow it"


GRID = """
pattern grid(h = 6, w = 8) {
    space image[y = h, x = w]
    input level: int[tokens]
    coord stripe = x // 2
    let near = window(3, axis = x)
    attend q.y == k.y and not (q.stripe == k.stripe or k.x < 2)
    attend abs(q.y - k.y) ** 2 <= 4 * (k.x + 1) if head < 2 else near
    attend dilated(3, axis = x) and same(level)
    require strided(2, axis = x) or any(q.x == k.x + each for each in 1 .. 4)
}
"""


@pytest.mark.parametrize(
    ("query", "key", "head", "said"),
    [
        (9, 14, 0, "q.y == k.y: 1 == 1  yes"),
        (9, 14, 0, "q.stripe == k.stripe: 0 == 3  no"),
        (9, 14, 0, "k.x < 2: 6 < 2  no"),
        (9, 14, 0, "head < 2: 0 < 2  yes"),
        (9, 14, 0, "abs(q.y - k.y) ** 2 <= 4 * (k.x + 1): 0 <= 28  yes"),
        (9, 14, 3, "near: k.x = 6 is outside 0 to 2  no"),
        (9, 14, 0, "dilated(3, axis = x): k.x = 6 is outside 1 or 4 or 7  no"),
        (9, 14, 0, "same(level): 0 == 1  no"),
        (13, 11, 0, "strided(2, axis = x): k.x = 3 is in 1 or 3 to 5  yes"),
        (13, 11, 0, "any(q.x == k.x + each for each in 1 .. 4): k.x = 3 is in 2 to 4  yes"),
    ],
)
def test_words_of_conditions(query, key, head, said):
    level = np.zeros(48, dtype=np.int64)
    level[14] = 1
    explained = maskdsl.parse(GRID)["grid"].bind(heads=4).explain(query, key, head, level=level)
    assert said in [line.strip() for line in str(explained).splitlines()], str(explained)


@pytest.mark.parametrize(
    ("holds", "index", "said"),
    [
        ([1, 1, 1, 0], 1, "k = 1 is in 0 to 2"),
        ([1, 1, 0, 0], 3, "k = 3 is outside 0 to 1"),
        ([0, 0, 1, 0], 2, "k = 2, and no other"),
        ([0, 0, 1, 0], 1, "k = 1 is not 2"),
        ([0, 0, 0], 1, "no k is allowed"),
        ([1, 0, 1, 1, 0, 1], 2, "k = 2 is in 0 or 2 to 3 or 5"),
        ([1, 0] * 5, 3, "k = 3 is outside 0, 2, ..., 8"),
        ([1, 0, 0, 1, 0, 1, 0, 0, 0, 1], 3, None),
    ],
)
def test_sets_of_keys_in_words(holds, index, said):
    assert key_sets.because("k", index, np.array(holds, dtype=bool)) == said


def test_what_is_no_pair():
    mask = maskdsl.parse("pattern p(n = 8) { space tokens[n] attend causal }")["p"].bind()
    for call in (lambda: mask.explain(8, 0), lambda: mask.explain(0, -1), lambda: mask.explain(0, 0, head=1)):
        with pytest.raises(maskdsl.AttnError, match="E462"):
            call()


ROUTED = """
pattern routed(n = 64, block = 8) {
    space tokens[n]
    coord run = i // block
    input value: float[tokens]
    input offset: float[n]
    route near = topk(2, dot(q, mean(k by run)))
    route far = topk(2, dot(mean(q by run), mean(k by run)))
    route best = topk(2, k.value)
    route back = topk(2, offset[q - k])
    attend near or far or best or (q >= k and back)
}
"""


@pytest.mark.parametrize(
    ("query", "key", "said"),
    [
        (20, 9, "near: query 20 selected groups 1, 6 of `run`; the key is in group 1  yes"),
        (21, 9, "near: query 21 selected no group of `run`; the key is in group 1  no"),
        (
            20,
            9,
            "far: group 2 of `run` selected groups 0, 1, 2, 3, 4, 5 and 2 more of `run`; the key is in group 1  yes",
        ),
        (30, 9, "far: group 3 of `run` selected group 5 of `run`; the key is in group 1  no"),
        (20, 9, "best: the queries selected keys 0, 7, 9, 30; this is key 9  yes"),
        (20, 10, "best: the queries selected keys 0, 7, 9, 30; this is key 10  no"),
        (20, 9, "back: the queries selected groups 0, 11, 20, 33; the pair is in group 11  yes"),
        (9, 20, "q >= k: 9 >= 20  no"),
    ],
)
def test_what_routes_selected(query, key, said):
    module = maskdsl.parse(ROUTED)
    mask = module["routed"].bind().ir
    shapes = {each.name: [side.size or 1 for side in each.dimensions] for each in mask.inputs}
    tables = {each.name: np.zeros(shapes[each.name], dtype=bool) for each in mask.routed}
    tables["near"][..., 20, [1, 6]] = True
    tables["far"][..., 2, :] = tables["far"][..., 3, 5] = True
    tables["best"][..., [0, 7, 9, 30]] = tables["back"][..., [0, 11, 20, 33]] = True
    explained = explain_pair(module.program, mask, query, key, 0, 0, tables)
    assert said in [line.strip() for line in str(explained).splitlines()], str(explained)
    assert "group -" not in str(explained)


def test_lines_that_decide_nothing_are_explained_by_their_inputs():
    """Beside a line that attends every pair: inputs and routes, which nothing else needs."""
    text = """pattern p(n = 9) {
        space t[n]
        input mark: bool[t]
        input far: float[n]
        route chosen = topk(2, far[abs(q - k)])
        attend all -> all
        attend q.mark and chosen
    }"""
    mask, mark, far = maskdsl.parse(text)["p"].bind(), np.arange(9) == 3, np.arange(9.0)
    for query, key, held in ((3, 4, [True, False]), (0, 8, [False, True]), (0, 2, [False, False])):
        line = mask.explain(query, key, mark=mark, far=far).lines[1].reason
        assert [each.holds for each in line.operands] == held and line.holds is all(held)
    with pytest.raises(maskdsl.AttnError, match="`mark`"):
        mask.explain(3, 4, far=far)


def test_routes_of_lines_that_no_pair_can_meet_change_no_other_line() -> None:
    text = """
    pattern p() {
        space text[4]
        space clip[0]
        tokens text ++ clip
        input rows: float[heads, 2, dim]
        route near = balanced(2, rows)
        route best = topk(1, dot(q, k))
        attend near
        attend best and text -> clip
    }
    """
    mask = maskdsl.parse(text)["p"].bind()
    rng = np.random.default_rng(0)
    given = {name: rng.normal(size=(1, 1, 4, 4)) for name in "qk"} | {"rows": rng.normal(size=(1, 2, 4))}
    dense = mask.dense(**given)
    assert 0 < dense.sum() < dense.size
    assert [[mask.explain(q, k, **given).attends for k in range(4)] for q in range(4)] == dense.tolist()
    best = int((given["k"][0, 0] @ given["q"][0, 0, 0]).argmax())
    said = [mask.explain(0, key, **given).lines[1].reason.operands[0].holds for key in range(4)]
    assert said == [key == best for key in range(4)]

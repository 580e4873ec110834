"""The page's evaluator in a real browser against the oracle: every example, random patterns, awkward operators."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.ir.meaning.evaluate import Pairs
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.ir.ops import OF_INTEGERS, OPERATORS, Op, Type
from maskdsl.testing import inputs_for, patterns
from maskdsl.view.page.blobs import Blobs
from maskdsl.view.page.html import asset
from maskdsl.view.page.page_data import pairs_data
from tests.support.awkward_lengths import PATTERNS, SMALL, awkward
from tests.support.drawn import examples

HEADS = 2
MOST_PAIRS = 4000

CHECK = """
async function holds(model, queries, keys) {
  const blobs = new Blobs(model.blobs), columns = { query: {}, key: {} }, tables = {};
  for (const [side, known] of [["query", model.queries.columns], ["key", model.keys.columns]])
    for (const [name, numbers] of Object.entries(known))
      columns[side][name] = await Promise.all(numbers.map((each) => blobs.get(each)));
  for (const [name, table] of Object.entries(model.tables))
    tables[name] = { ...table, values: await blobs.get(table.values) };
  const evaluator = new Evaluator(model, columns, tables);
  return model.classes.map((_, head) => {
    let text = "", reasons = "";
    for (let begin = 0; begin < queries.length; begin += CHUNK) {
      const size = Math.min(CHUNK, queries.length - begin);
      for (let at = 0; at < size; at++) {
        evaluator.positions.query[at] = queries[begin + at];
        evaluator.positions.key[at] = keys[begin + at];
      }
      text += evaluator.run(model.relation, size, head).slice(0, size).join("");
    }
    for (let at = 0; at < Math.min(40, queries.length); at++) {
      const value = (part) => Boolean(evaluator.one(part.node, queries[at], keys[at], head));
      reasons += explained(model.branches, value).allowed ? "1" : "0";
    }
    return [text, reasons];
  });
}
"""


@pytest.fixture(scope="module")
def evaluate(browser):
    """`holds` of the text above in a page that has the scripts alone."""
    page = browser.new_page()
    scripts = [asset(f"{name}.js") for name in ("decode", "operators", "evaluate", "reasons")]
    page.add_script_tag(content="\n".join([*scripts, CHECK]))
    known = page.evaluate("[...Object.keys(OPERATORS), ...Object.keys(VARIADIC)]")
    assert sorted(known) == sorted(op.value for op in Op)
    yield lambda *arguments: page.evaluate("(arguments) => holds(...arguments)", list(arguments))
    page.close()


def compare(evaluate, program, mask, inputs, seed=0):
    """Random pairs, or all if they are few, in every head."""
    blobs = Blobs()
    classes = [[head] for head in range(mask.heads)]
    model = json.loads(json.dumps(pairs_data(program, mask, inputs, classes, blobs) | {"blobs": blobs.list}))
    everything = mask.queries.length * mask.keys.length
    random = np.random.default_rng(seed)
    chosen = np.arange(everything) if everything <= MOST_PAIRS else random.choice(everything, MOST_PAIRS, replace=False)
    queries, keys = np.divmod(random.permutation(chosen), mask.keys.length)
    found = evaluate(model, queries.tolist(), keys.tolist())
    for head, (text, reasons) in enumerate(found):
        expected = Pairs(mask, queries, keys, head, 0, inputs).allowed()
        text_expected = "".join("01"[each] for each in expected.astype(int))
        assert text == text_expected, (
            f"head {head}: {(np.array(list(text)) != np.array(list(text_expected))).sum()} pairs"
        )
        assert reasons == text_expected[: len(reasons)]


@pytest.mark.thinned(2, "name")
@pytest.mark.parametrize(("file", "name"), PATTERNS, ids=lambda each: getattr(each, "stem", each))
def test_every_example(evaluate, file, name):
    mask = awkward(maskdsl.load(file)[name], SMALL)
    inputs = synthetic_inputs(mask.ir, 1, dim=16)
    program = mask.pattern.program
    if selects(mask.ir):
        compare(evaluate, program, most(mask.ir), inputs)
    if mask.ir.routed:
        random = np.random.default_rng(2)
        q, k = (
            random.normal(size=(1, mask.heads, length, 16))
            for length in (mask.given_query_length, mask.given_key_length)
        )
        inputs = with_routes(mask.ir, inputs, q, k, relation_inputs(mask.ir))
    compare(evaluate, program, mask.ir, inputs)


@settings(max_examples=examples(25), phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_patterns(evaluate, data):
    mask = data.draw(patterns(), label="pattern").bind()
    inputs = data.draw(inputs_for(mask.ir), label="inputs")
    compare(evaluate, mask.pattern.program, mask.ir, inputs)


AWKWARD = [
    "(q - 31) // 7 == (k - 40) // 5",
    "(q - 31) % -7 == (k - 40) % 5 - 6",
    "random(3, q, k - 20) % 3 == 0",
    "random(q * 2 ** 40 - 5, k) < 2 ** 30",
    "random(1, random(2, q), random(3, k)) // 2 ** 29 == 1",
    "(q * 2 ** 40 + k * 2 ** 52) // 3 ** 20 % 5 < 2",
    "(q * 2 ** 52 - k * 2 ** 53) % -(2 ** 50 + 1) < -(2 ** 47)",
    "abs(q - 2 * k) * 2 ** 55 > 2 ** 59 + 1",
    "max(q * 2 ** 54, k * 2 ** 53) == q * 2 ** 54",
    "ilog2(q * 2 ** 55 + 1) == ilog2(k * 2 ** 55)",
    "max(float(q - k), -inf) < (inf if q % 3 == 0 else 2.0)",
    "ilog2(q - 20) > ilog2(k - 3) or is_power_of_two(q - k)",
    "is_power_of_two(q * 2 ** 50 - k)",
    "share_bit(q - 30, k * 5)",
    "share_bit(q * 2 ** 33 - 2 ** 36, k * 2 ** 34)",
    "share_bit(q * 2 ** 54, k * 2 ** 53)",
    "float(q) ** 2 <= float(k) * 30.5",
    "(q - 20) ** 3 + k ** 2 > 100",
    "sqrt(float(q)) - tanh(float(k) / 9.0) * 5.0 > sigmoid(float(q - k)) + log(float(k + 1))",
    "exp(float(q - k)) < 3.0 or float(q * 2 ** 54) / 7.0 < float(k) * 2.0 ** 51",
    "(q if q < k else k * 2 ** 53) % 3 == 1",
    "round(float(q - 20) / 2.0) == floor(float(k - 20) / 2.0)",
    "int(float(q - k) * 0.3) == 2 or floor(float(q - 20) * 2.0 ** 56) // 2 ** 54 == k",
    "round(float(q - k) * 2.0 ** 51 + 0.5) % 3 == int(-float(k) * 1.0e16) % 2",
    "shuffle(i, 4) < 9 if head == 0 else False",
]


FUNCTIONS = [
    OPERATORS[op].function + f"({', '.join(parts[: OPERATORS[op].count])}){end}"
    for kind, end in ((None, " % 3 == 1"), (Type.BOOL, ""))
    for op in OF_INTEGERS[kind]
    for parts in (("q - 20", "k - 9"), ("q * 2 ** 54 - 2 ** 58", "(k - 20) * 2 ** 52"))
]


@pytest.mark.parametrize("relation", AWKWARD + FUNCTIONS)
def test_operators(evaluate, relation):
    text = f"pattern awkward() {{ space tokens[41] attend {relation} }}"
    if "shuffle" in relation:
        text = "pattern awkward() { space tokens[41] coord z = shuffle(i, 4) attend q.z < k.z and head == 0 }"
    (pattern,) = maskdsl.parse(text).values()
    mask = pattern.bind(heads=HEADS).ir
    compare(evaluate, pattern.program, mask, {})


def test_a_table_of_every_head(evaluate):
    text = """pattern tables() {
        space tokens[30]
        input gate: bool[heads, 6, 6]
        input bias: float[batch, 59]
        input part: int[heads, tokens]
        input big: int[3]
        attend gate[head, q // 5, k // 5] and bias[batch, q - k + 29] > 0.0 or q.part == k.part
        attend big[q % 3] * 2 ** 31 < 0
    }"""
    (pattern,) = maskdsl.parse(text).values()
    mask = pattern.bind(heads=3).ir
    inputs = synthetic_inputs(mask, 3) | {"big": np.array([5, -(2**31), 2**31 - 1])}
    compare(evaluate, pattern.program, mask, inputs)


def test_floats_outside_of_a_table_are_no_numbers(evaluate):
    """Where inputs decide the index; as tiles and kernels have it, and no comparison with them holds."""
    text = """pattern open() {
        space tokens[30]
        input g: int[tokens]
        input w: float[4]
        attend w[k.g] < 9.0 or q == k
    }"""
    (pattern,) = maskdsl.parse(text).values()
    inputs = {"g": np.arange(30) % 7 - 1, "w": np.array([1.0, 20.0, 2.0, 3.0])}
    blobs = Blobs()
    data = pairs_data(pattern.program, pattern.bind(heads=1).ir, inputs, [[0]], blobs) | {"blobs": blobs.list}
    queries, keys = np.divmod(np.arange(900), 30)
    ((found, _),) = evaluate(json.loads(json.dumps(data)), queries.tolist(), keys.tolist())
    expected = np.isin(inputs["g"][keys], [0, 2, 3]) | (queries == keys)
    assert found == "".join("01"[each] for each in expected.astype(int))


def test_what_is_bound_can_be_wide():
    (pattern,) = maskdsl.parse("pattern p() { space tokens[4] attend q * 2 ** 60 > k }").values()
    with pytest.raises(AttnError):
        maskdsl.parse("pattern p() { space tokens[40] attend q * 2 ** 60 > k }")["p"].bind()
    wide = [
        each for each in pairs_data(pattern.program, pattern.bind().ir, {}, [[0]], Blobs())["code"] if "wide" in each
    ]
    assert {each["op"] for each in wide} == {"constant", "multiply"}


LISTS = """
pattern drawn(n = 37) {
    space tokens[n]
    input edge: sparse[tokens, tokens]
    input kind: int[edge]
    input chosen: sparse[heads, 5, 5]
    attend edge[q, k] and kind[q, k] > 0
    attend not edge[k, q] and chosen[head, q // 8, k // 8]
}
"""


def test_lists(evaluate):
    mask = maskdsl.parse(LISTS)["drawn"].bind(heads=3)
    random = np.random.default_rng(0)
    pairs = np.array(np.nonzero(random.random((37, 37)) < 0.2))[:, ::-1]
    starts = np.broadcast_to(np.arange(6) * 3, (3, 6))
    columns = random.integers(-1, 5, (3, 15))
    given = {"edge": pairs, "kind": random.integers(-1, 2, pairs.shape[1]), "chosen": (starts, columns)}
    compare(evaluate, mask.pattern.program, mask.ir, input_arrays(mask.ir, given, ()))

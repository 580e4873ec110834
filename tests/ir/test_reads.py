"""What an expression reads is said by `ir/facts/reads.py`: against a plain recursion, and of expressions that are
large.
"""

import ast
import gc
from pathlib import Path
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Apply, Batch, Constant, Coordinate, Head, InSpace, Read, Score, Side, apply
from maskdsl.ir.facts.reads import Reads, reads
from maskdsl.ir.facts.trace import pair_trace, token_trace, trace
from maskdsl.ir.ops import Op, Type

SOURCES = Path(maskdsl.__file__).parent
Q, K, TOKEN = (Coordinate(side, "i") for side in Side)
LEAVES = [Q, K, Coordinate(Side.QUERY, "x"), InSpace(Side.KEY, "a"), Head(), Batch(), Score(), Constant(1)]


def grown(parts):
    tables = st.tuples(st.sampled_from("tu"), parts).map(lambda of: Read(of[0], (of[1],), Type.INT))
    return st.tuples(parts, parts).map(lambda both: apply(Op.ADD, *both)) | tables


def plainly(node, leaves, inputs):
    match node:
        case Apply(arguments=parts):
            pass
        case Read(input=name, indices=parts):
            inputs.setdefault(name)
        case Constant():
            return
        case _:
            leaves.setdefault(node)
            return
    for part in parts:
        plainly(part, leaves, inputs)


@settings(deadline=None)
@given(st.lists(st.recursive(st.sampled_from(LEAVES), grown, max_leaves=12), max_size=3))
def test_as_a_recursion_finds_it(expressions):
    leaves, inputs = {}, {}
    for each in expressions:
        plainly(each, leaves, inputs)
    found = reads(*expressions)
    assert found == Reads(tuple(leaves), tuple(inputs))
    assert (found.head, found.batch, found.score) == (Head() in leaves, Batch() in leaves, Score() in leaves)
    assert set(found.of(Side.QUERY)) == leaves.keys() & {Q, Coordinate(Side.QUERY, "x")}
    assert found.names(Side.KEY) == ("i",) * (K in leaves or InSpace(Side.KEY, "a") in leaves)


def test_deep_and_shared_expressions():
    deep, shared = Q, K
    for number in range(10_000):  # deeper than Python recurses
        deep = apply(Op.ADD, Read("t", (deep,), Type.INT), Constant(number))
    for _ in range(100):  # 2 ** 100 nodes, were nothing shared
        shared = apply(Op.ADD, shared, shared)
    assert reads(deep, shared) == Reads((Q, K), ("t",))


@pytest.mark.parametrize("make", [lambda: Read("gone", (Q,), Type.INT), lambda: apply(Op.ADD, Q, Constant(12345))])
def test_what_is_known_goes_with_its_expression(make):
    node = make()
    assert reads(node).coordinates == (Q,)
    shape = ref(node.shape)
    del node
    gc.collect()
    assert shape() is None


TEXT = """
pattern p(n = 8) {
    space t[n]
    input doc: int[batch, t]
    input table: int[heads, n]
    coord base = doc % 3
    coord own = base + table[head, i]
    order by table[0, i]
    attend q.own == k.i and k <= q
}
"""


def test_what_is_behind_tokens():
    mask = maskdsl.parse(TEXT)["p"].bind(heads=2).ir
    own = trace(mask.keys, [Coordinate(Side.TOKEN, "own")])
    assert own.names == {"own", "base", "doc", "i"} and own.given == {"doc"} and own.inputs == {"doc", "table"}
    assert own.varies(mask) == {DimensionKind.BATCH, DimensionKind.HEADS} and not own.is_fixed
    assert trace(mask.keys, [TOKEN]).is_fixed
    assert token_trace(mask, [mask.relation]).inputs == pair_trace(mask, [mask.relation]).inputs == {"doc", "table"}
    assert token_trace(mask, (), ordered=True).varies(mask) == set()  # one row of the table, for all heads
    assert pair_trace(mask, [Head()]).varies(mask) == {DimensionKind.HEADS}
    assert token_trace(mask, [Head()]).varies(mask) == set()


def walks_for_leaves(source):
    """Comprehensions over `walk` that look for leaves."""
    leaves = {each.__name__ for each in (Coordinate, InSpace, Head, Batch, Score)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.GeneratorExp | ast.ListComp | ast.SetComp | ast.DictComp):
            calls = [each for each in ast.walk(node) if isinstance(each, ast.Call) and isinstance(each.func, ast.Name)]
            asked = [each.args[1] for each in calls if each.func.id == "isinstance"]
            named = {each.id for kinds in asked for each in ast.walk(kinds) if isinstance(each, ast.Name)}
            if named and named <= leaves | {"Read"} and named & leaves and "walk" in {each.func.id for each in calls}:
                yield ast.unparse(node)


def test_nobody_else_walks_for_leaves():
    assert list(walks_for_leaves("any(isinstance(each, Head) for each in walk(e))"))
    found = [(path.name, text) for path in SOURCES.rglob("*.py") for text in walks_for_leaves(path.read_text())]
    assert found == []

"""What is shared stays shared: work grows with what is written, not with what it would be, were nothing shared."""

import copy
import pickle
import re
from dataclasses import fields, replace
from time import process_time

import pytest
import torch

import maskdsl
from maskdsl.analysis.closed.closed_form import closed_limits
from maskdsl.emit.plan import make_plan
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.ir.expressions import Apply, Constant, Coordinate, Read, Score, Side, apply, rebuild, size, walk
from maskdsl.ir.facts.ranges import Range, expression_range
from maskdsl.ir.mask_printer import print_mask
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.rewrites.derive import derivative
from maskdsl.ir.simplify import simplify

DEEP = 80
MOST_COORDINATES = 200
I = Coordinate(Side.QUERY, "i")  # noqa: E741


def doubled(leaf, op=Op.ADD):
    """A node that reads the one before it twice, and so on: 2 ** DEEP nodes, were nothing shared."""
    node = leaf
    for _ in range(DEEP):
        node = apply(op, node, node)
    return node


def chain(length):
    """Each coordinate reads the one before it twice."""
    lines = [f"coord c{n + 1} = (c{n} + c{n} // 3) % {97 + n}" for n in range(length)]
    return f"pattern chain(n = 96) {{ space t[n] coord c0 = i {' '.join(lines)} attend causal and same(c{length}) }}"


def test_passes_look_at_a_shared_node_once():
    node = doubled(I)
    assert len(list(walk(node))) == DEEP + 2 and size(node) == 2 ** (DEEP + 1) - 1
    assert node == doubled(I) and hash(node) == hash(doubled(I)) and node != doubled(I, Op.MINIMUM)
    assert rebuild(node, lambda each: Coordinate(Side.KEY, "i") if each == I else None) == doubled(
        Coordinate(Side.KEY, "i")
    )
    assert simplify(node) == node
    assert evaluate(doubled(I, Op.MAXIMUM), lambda _: 3, {}) == 3
    assert expression_range(doubled(I, Op.MAXIMUM), lambda _: Range(2, 5)) == (2, 5)
    slope = derivative(doubled(Score()), Score())
    assert slope == Constant(2.0**DEEP)


@pytest.mark.parametrize("change", [{"input": "y"}, {"indices": (I,)}, {"type": Type.INT}, {"open": True}])
def test_all_fields_of_a_read_tell_it_from_others(change):
    read = Read("x", (I, Constant(1)), Type.FLOAT)
    assert {each.name for each in fields(Read)} == {"input", "indices", "type", "open", "span", "shape", "sparse"}
    assert replace(read, **change) != read == replace(read)
    assert pickle.loads(pickle.dumps(replace(read, **change))) == replace(read, **change)


def test_equal_nodes_are_equal_after_copying():
    node = doubled(Coordinate(Side.KEY, "x", Type.FLOAT), Op.MULTIPLY)
    for other in (pickle.loads(pickle.dumps(node)), copy.deepcopy(node)):
        assert isinstance(other, Apply) and other == node and {node: 1}[other] == 1
        assert len(list(walk(other))) == DEEP + 2


@pytest.mark.parametrize("backend", ["tiled", "reference"])
def test_coordinates_that_read_one_twice(backend):
    q, k, v = torch.randn(3, 1, 1, 96, 8, requires_grad=True)
    maskdsl.parse(chain(1))["chain"].bind().compile(backend)(q, k, v)  # what is imported at the first call
    start = process_time()
    mask = maskdsl.parse(chain(MOST_COORDINATES - 1))["chain"].bind()
    out = mask.compile(backend)(q, k, v)
    assert process_time() - start < 4  # on a slow machine; otherwise below one
    allowed = torch.tensor(mask.dense())
    expected = torch.nn.functional.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), allowed)
    torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)


def test_coordinates_that_read_one_twice_are_printed():
    mask = maskdsl.parse(chain(30))["chain"].bind().ir
    source = emit_triton(make_plan(mask))
    assert 1 <= len(re.findall(r"\bc15 = ", source)) <= 4 and "k_c30" in source
    assert len(print_mask(mask).splitlines()) < 50


def test_no_limits_are_solved_for_through_many_coordinates():
    lines = " ".join(f"coord c{n + 1} = c{n} + c{n}" for n in range(40))
    text = f"pattern sums(n = 64) {{ space t[n] coord c0 = i {lines} attend q.c40 <= k.c40 }}"
    mask = maskdsl.parse(text)["sums"].bind().ir
    assert closed_limits(mask, Side.QUERY) is None

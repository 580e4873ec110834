"""Relations of thousands of operands: generated code is never nested as deeply as it is long."""

import ast
from dataclasses import replace

import pytest
import torch

import maskdsl
from maskdsl.emit.plan import make_plan
from maskdsl.emit.statement_printer import in_parentheses
from maskdsl.emit.torch.reference_module import emit_reference
from maskdsl.emit.torch.tiled_module import emit_tiled
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.ir.expressions import Constant, Coordinate, Side, apply
from maskdsl.ir.ops import Op
from maskdsl.runtime.backends.available import usable_backends

LINES = 3000
"""So many operands, one behind the other, are too many for Python's compiler."""
TEXTS = {
    "any": f"attend any(q == 3 * j + k for j in 0 .. {LINES})",
    "attend": "\n".join(f"attend q == {n} + 2 * k" for n in range(LINES)),
    "require": "attend causal\n" + "\n".join(f"require q != {n} + 2 * k" for n in range(7, LINES)),
}


def test_modules_of_thousands_of_operands_are_read_by_python():
    mask = maskdsl.parse("pattern p(n = 40) { space tokens[n] attend causal }")["p"].bind().ir
    query, key = (Coordinate(side, "i") for side in (Side.QUERY, Side.KEY))
    parts = (apply(Op.EQUAL, query, apply(Op.ADD, key, Constant(n))) for n in range(LINES))
    plan = make_plan(replace(mask, relation=apply(Op.OR, *parts)))
    for emit in (emit_tiled, emit_reference, emit_triton):
        compile(emit(plan), emit.__name__, "exec")


@pytest.mark.long
@pytest.mark.parametrize("kind", TEXTS)
def test_thousands_of_lines(kind):
    mask = maskdsl.parse(f"pattern p(n = 40) {{ space tokens[n]\n{TEXTS[kind]} }}")["p"].bind()
    allowed = torch.tensor(mask.dense())
    assert allowed.any(1).all() and not allowed.all()
    q, k, v = torch.randn(3, 1, 1, 40, 8, requires_grad=True)
    expected = torch.nn.functional.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), allowed)
    slopes = torch.autograd.grad(expected.square().sum(), (q, k, v))
    for backend in usable_backends():
        out = mask.compile(backend)(q, k, v)
        torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
        found = torch.autograd.grad(out.square().sum(), (q, k, v))
        torch.testing.assert_close(found, slopes, rtol=1e-3, atol=1e-3)


def test_many_operands_are_nested_little():
    names = [f"a{n}" for n in range(20_000)]
    (statement,) = ast.parse("\n".join(in_parentheses("|", [[name] for name in names], "x = "))).body
    order, depth = [], 0
    pending = [(statement.value, 1)]
    while pending:
        node, level = pending.pop()
        depth = max(depth, level)
        match node:
            case ast.BinOp(left, ast.BitOr(), right):
                pending += [(right, level + 1), (left, level + 1)]
            case ast.Name(name):
                order.append(name)
    assert order == names and depth < 200

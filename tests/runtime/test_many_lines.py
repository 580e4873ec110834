"""Relations of thousands of operands: generated code is never nested as deeply as it is long."""

import ast

import pytest
import torch

import maskdsl
from maskdsl.emit.printer import in_parentheses
from maskdsl.emit.triton import emit_triton
from maskdsl.plan import make_plan

LINES = 1500
TEXTS = {
    "any": f"attend any(q == 3 * j + k for j in 0 .. {LINES})",
    "attend": "\n".join(f"attend q == {n} + 2 * k" for n in range(LINES)),
    "require": "attend causal\n" + "\n".join(f"require q != {n} + 2 * k" for n in range(7, LINES)),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_thousands_of_lines(kind):
    mask = maskdsl.parse(f"pattern p(n = 40) {{ space tokens[n]\n{TEXTS[kind]} }}")["p"].bind()
    allowed = torch.tensor(mask.dense())
    assert allowed.any(1).all() and not allowed.all()
    q, k, v = torch.randn(3, 1, 1, 40, 8, requires_grad=True)
    expected = torch.nn.functional.scaled_dot_product_attention(*(x.double() for x in (q, k, v)), allowed)
    slopes = torch.autograd.grad(expected.square().sum(), (q, k, v))
    for backend in ("tiled", "reference"):
        out = mask.compile(backend)(q, k, v)
        torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
        found = torch.autograd.grad(out.square().sum(), (q, k, v))
        torch.testing.assert_close(found, slopes, rtol=1e-3, atol=1e-3)
    compile(emit_triton(make_plan(mask.ir)), "<triton>", "exec")


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

"""Blocks and orders chosen for cliques: callers see tokens as declared, forward and backward, whatever is computed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.api import Mask
from maskdsl.emit.plan import clique_plan, make_plan
from maskdsl.ir.ops import Type
from maskdsl.runtime.backends.available import usable_backends
from tests.support.drawn import examples

IMAGE = "pattern p(h = 14, w = 21) { space image[y = h, x = w] "
LINE = "pattern p(n = 192) { space t[n] "
ROLLED = IMAGE + "attend rolled_blocks((7, 7), shift) require same_side((shift, shift)) "
BIASED = "score s + table[head, q.y - k.y + 6, q.x - k.x + 6] "
TABLE = "input table: float[heads, 13, 13] "
CROSSED = "pattern p() { space image[y = 16, x = 16] space coarse[b = 4, a = 4] queries image keys coarse "
CASES = {
    "windows": IMAGE + "attend blocks((7, 7))",
    "shifted windows": ROLLED.replace("shift", "3"),
    "shifted windows with a table": ROLLED.replace("shift", "3").replace("attend", TABLE + "attend", 1) + BIASED,
    "windows with other sides": "pattern p() { space image[y = 16, x = 24] attend blocks((4, 8))",
    "windows of different sizes": "pattern p() { space image[y = 30, x = 29] attend blocks((7, 7))",
    "stripes by head": IMAGE + "attend q.y == k.y where head < 2 attend q.x == k.x where head >= 2",
    "stripes of heads with shared keys": IMAGE + "attend q.x == k.x where head % 2 == 0 attend dilated(7, axis = x) "
    "where head % 2 == 1",
    "groups in declared order": LINE + "attend blocks(24)",
    "dilated groups": LINE + "attend dilated(6)",
    "causal groups": LINE + "attend dilated(6) and causal",
    "tiny groups": LINE + "attend dilated(64)",
    "an order of the pattern": LINE + "order by i % 8 attend dilated(8)",
    "queries without keys": LINE + "attend dilated(6) and q % 5 > 1",
    "two sequences": CROSSED + "attend q.y // 8 == k.b // 2 and q.x // 8 == k.a // 2",
    "numbers of tokens": LINE
    + "input a: float[batch, t] input b: float[heads, t] attend dilated(6) score s * q.a + k.b",
    "padding": LINE + "input real: int[batch] attend dilated(6) and k < 20 + real[batch]",
    "weights and sinks": LINE
    + "input a: float[heads] input b: float[batch, t] attend dilated(6) weight k.b weight q.b "
    "sink a[head] + q.b",
    "a softmax by key": LINE + "attend dilated(6) normalize softmax by k",
    "no softmax": LINE + "attend dilated(6) score s * s normalize none",
    "pooled keys": LINE + "space pool = mean(t, 4) queries t keys pool attend q % 6 == k % 6",
    "products of vectors": LINE
    + "input rel: float[heads, 64, dim] attend dilated(6) score s + dot(q, rel[head, k // 3])",
    "branches": LINE + "branch far { attend dilated(6) } branch near { attend window(9) }",
}


def call(
    mask: Mask, backend: str, layout: str, *, batch: int = 2, dtype: torch.dtype = torch.float64
) -> list[torch.Tensor]:
    """The output, the log-sum-exp, and the gradients of q, k, v and all inputs of type float, of random tensors."""
    torch.manual_seed(1)
    lengths = (mask.heads, mask.ir.queries.given_length), *[(2, mask.ir.keys.given_length)] * 2
    tokens = [torch.randn(batch, heads, n, 8, dtype=torch.float64).to(dtype) for heads, n in lengths]
    sizes = {"batch": batch, "heads": mask.heads, "dim": 8}
    inputs = {}
    for each in mask.ir.given:
        shape = [sizes[one.text] if one.size is None else one.size for one in each.dimensions]
        inputs[each.name] = (
            torch.randn(shape, dtype=torch.float64).to(dtype) if each.type is Type.FLOAT else torch.randint(99, shape)
        )
    leaves = [x.requires_grad_() for x in (*tokens, *inputs.values()) if x.is_floating_point()]
    results = mask.compile(backend)(*tokens, return_lse=mask.ir.has_sums, layout=layout, **inputs)
    out, *sums = results if mask.ir.has_sums else (results,)
    ends = sum((lse[lse.isfinite()].cos().sum() for lse in sums), start=out.sin().sum())
    return [out, *sums, *torch.autograd.grad(ends, leaves)]


def is_chosen(mask: Mask) -> bool:
    """Whether other blocks or another order are chosen than usually."""
    plans = map(make_plan, mask.ir.branches or (mask.ir,))
    return any(clique_plan(plan) is not plan for plan in plans)


@pytest.mark.parametrize("layout", ["declared", "ordered"])
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(name: str, layout: str) -> None:
    mask = maskdsl.parse(CASES[name] + " }")["p"].bind(heads=4)
    assert is_chosen(mask)
    if layout == "ordered" and mask.ir.multiplies:
        return
    torch.testing.assert_close(call(mask, "tiled", layout), call(mask, "reference", layout))


@pytest.mark.parametrize("backend", ["tiled", "native"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "name",
    [
        "shifted windows with a table",
        "windows of different sizes",
        "two sequences",
        "padding",
        "stripes of heads with shared keys",
    ],
)
def test_agrees_in_other_types(name: str, dtype: torch.dtype, backend: str) -> None:
    if backend not in usable_backends():
        # `native` needs a compiler, which is optional; the other backends run these cases everywhere.
        pytest.skip("no C compiler works here, so no kernel in C is built")
    mask = maskdsl.parse(CASES[name] + " }")["p"].bind(heads=4)
    found = [x.double() for x in call(mask, backend, "declared", dtype=dtype)]
    expected = [x.double() for x in call(mask, "reference", "declared", dtype=dtype)]
    room = {torch.float32: 2e-6, torch.bfloat16: 2e-2}[dtype]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=room, atol=room * other.abs().max().item())


@settings(max_examples=examples(25), deadline=None)
@given(st.data())
def test_any_windows(data: st.DataObject) -> None:
    """Of any sides and shifts, in images that they tile or not, with other conditions."""
    sides = [data.draw(st.sampled_from([2, 3, 4, 5, 7, 8])) for _ in range(2)]
    lengths = [
        data.draw(st.integers(12, 22)) if data.draw(st.integers(0, 3)) == 0 else 3 * side + side for side in sides
    ]
    shift = data.draw(st.integers(0, min(sides) - 1))
    more = data.draw(st.sampled_from(["", "require same_side((SHIFT, SHIFT))", "require causal", "require q.y != k.x"]))
    kind = data.draw(
        st.sampled_from([f"rolled_blocks(({sides[0]}, {sides[1]}), {shift})", f"dilated({sides[0]}, axis = y)"])
    )
    text = f"space image[y = {lengths[0]}, x = {lengths[1]}] attend {kind} {more.replace('SHIFT', str(shift))}"
    mask = maskdsl.parse(f"pattern p() {{ {text} }}")["p"].bind(heads=2)
    torch.testing.assert_close(call(mask, "tiled", "declared"), call(mask, "reference", "declared"))


def test_what_callers_see_stays_declared() -> None:
    """The order is no property of the pattern: neither of its mask, its tiles nor its partial calls."""
    mask = maskdsl.parse(CASES["dilated groups"] + " }")["p"].bind(heads=2)
    attention = mask.compile("tiled")
    assert attention.mask == mask.ir and not any(attention.mask.queries.order)
    assert attention.tiles() == mask.tiles((64, 64))
    q, k, v = torch.randn(3, 1, 2, 192, 8, dtype=torch.float64)
    whole = attention(q, k, v)
    torch.testing.assert_close(attention(q[:, :, 100:110], k, v, query_start=100), whole[:, :, 100:110])
    torch.testing.assert_close(attention(q, k, v, layout="ordered"), whole)


def test_blocks_that_are_given_are_kept() -> None:
    mask = maskdsl.parse(CASES["dilated groups"] + " }")["p"].bind().ir
    plan = make_plan(mask, 16, 32)
    assert clique_plan(plan) is plan
    assert clique_plan(make_plan(mask)).query_block == 32

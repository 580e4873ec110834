"""The reference backend against softmax written out in float64."""

import pytest
import torch

from maskdsl.ir.expressions import Head, Read, Score, apply
from maskdsl.ir.ops import Op, Type
from maskdsl.runtime.compile import compile_mask
from tests.support.masks import both, c, causal, declared, either, given, grid, k, mask, q, tokens, within


def softmax_attention(q, k, v, attends, scores=lambda s: s):
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    s = scores(torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5).masked_fill(~attends, -torch.inf)
    lse = s.logsumexp(-1)
    return torch.einsum("bhqk,bhkd->bhqd", torch.exp(s - lse[..., None]).nan_to_num(0), v), lse


def draw(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype)


@pytest.mark.parametrize("length", [1, 7, 33])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_window_and_globals(length, key_heads):
    relation = either(within(2), apply(Op.LESS, k(), c(1)), apply(Op.LESS, q(), c(1)))
    attention = compile_mask(mask(relation, tokens(length)), "reference")
    queries, keys, values = draw(2, 4, length, 8), draw(2, key_heads, length, 8), draw(2, key_heads, length, 5)
    i = torch.arange(length)
    attends = ((i[:, None] - i).abs() <= 2) | (i[:, None] < 1) | (i < 1)
    out, lse = attention(queries, keys, values, return_lse=True)
    expected, expected_lse = softmax_attention(queries, keys, values, attends)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(lse, expected_lse)


def test_documents_by_batch_and_slopes_by_head_with_gradients():
    length = 12
    relation = both(causal(), apply(Op.EQUAL, q("document"), k("document")))
    distance = apply(Op.TO_FLOAT, apply(Op.SUBTRACT, q(), k()))
    # At pairs that do not attend the logarithm is not a number, and must not reach any gradient.
    penalty = apply(Op.LOGARITHM, apply(Op.ADD, distance, c(1.0)))
    score = apply(Op.SUBTRACT, Score(), apply(Op.MULTIPLY, Read("slope", (Head(),), Type.FLOAT), penalty))
    inputs = (declared("document", Type.INT, batch=None, tokens=length), declared("slope", Type.FLOAT, heads=2))
    bound = mask(relation, tokens(length, given("document")), heads=2, inputs=inputs, scores=(score,))
    attention = compile_mask(bound, "reference")
    document = torch.randint(0, 3, (3, length))
    tensors = [draw(3, 2, length, 4) for _ in range(3)] + [draw(2)]
    i = torch.arange(length)
    attends = (i[:, None] >= i) & (document[:, None, :, None] == document[:, None, None, :])
    penalties = (i[:, None] - i + 1).clamp(min=1).double().log()

    def gradients(function):
        leaves = [tensor.clone().requires_grad_() for tensor in tensors]
        out, lse = function(*leaves)
        return torch.autograd.grad((out * torch.arange(4)).sum() + lse.square().sum(), leaves)

    own = gradients(lambda a, b, c, slope: attention(a, b, c, return_lse=True, document=document, slope=slope))
    other = gradients(
        lambda a, b, c, slope: softmax_attention(a, b, c, attends, lambda s: s - slope[:, None, None] * penalties)
    )
    for one, two in zip(own, other, strict=True):
        torch.testing.assert_close(one, two)


def test_empty_rows_and_poison():
    relation = both(within(1, "x"), apply(Op.LESS, q("y"), c(2)), apply(Op.LESS, k("y"), c(2)))
    attention = compile_mask(mask(relation, grid(3, 4)), "reference")
    tensors = [draw(1, 1, 12, 4) for _ in range(3)]
    for tensor in tensors:
        tensor[:, :, 8:] = torch.nan
        tensor.requires_grad_()
    out, lse = attention(*tensors, return_lse=True)
    assert torch.equal(out[:, :, 8:], torch.zeros(1, 1, 4, 4, dtype=torch.float64))
    assert bool((lse[:, :, 8:] == -torch.inf).all())
    assert not out.isnan().any() and not lse.isnan().any()
    for gradient in torch.autograd.grad(out.sum(), tensors):
        assert not gradient.isnan().any() and not gradient[:, :, 8:].any()

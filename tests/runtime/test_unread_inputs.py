"""Inputs that a pattern declares and does not read: calls give them or leave them out."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl import AttnError

TEXT = """pattern p(n = 32) {
    space tokens[n]
    input document: int[tokens]
    input pairs: bool[batch, n, n]
    attend causal
}
stack s(n = 32) = 2 * p(n)
"""
MODULE = maskdsl.parse(TEXT)
DOCUMENT = np.arange(32) // 8


@pytest.mark.parametrize("follows", [False, True])
def test_calls_with_and_without(follows):
    attention = MODULE["p"].compile(heads=2) if follows else MODULE["p"].bind(heads=2).compile()
    q = torch.randn(1, 2, 32, 8)
    assert attention.inputs == ()
    assert torch.equal(attention(q, q, q), attention(q, q, q, document=torch.as_tensor(DOCUMENT)))
    with pytest.raises(AttnError, match="E411"):
        attention(q, q, q, documents=torch.as_tensor(DOCUMENT))


def test_masks_and_stacks():
    mask = MODULE["p"].bind()
    assert mask.inputs == () and mask.tiles(document=DOCUMENT) == mask.tiles()
    assert np.array_equal(mask.dense(pairs=np.ones((1, 32, 32), dtype=bool)), np.tril(np.ones((32, 32), dtype=bool)))
    stack = MODULE.stack("s").bind()
    assert stack.inputs == () and stack.stats(document=DOCUMENT).total.attended == 2 * 528


@pytest.mark.parametrize("follows", [False, True])
def test_an_order_may_read_what_the_pattern_does_not(follows):
    order = "by document"
    attention = MODULE["p"].compile(order=order) if follows else MODULE["p"].bind(order=order).compile()
    q = torch.randn(1, 1, 32, 8)
    assert attention.inputs == ("document",)
    with pytest.raises(AttnError, match="E410"):
        attention(q, q, q)
    torch.testing.assert_close(
        attention(q, q, q, document=torch.as_tensor(DOCUMENT[::-1].copy())), MODULE["p"].bind().compile()(q, q, q)
    )


def test_a_wrong_declaration_is_still_an_error():
    with pytest.raises(AttnError, match="E241"):
        maskdsl.parse(TEXT.replace("int[tokens]", "integer[tokens]"))["p"].bind()

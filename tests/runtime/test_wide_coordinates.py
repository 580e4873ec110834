"""Coordinates beyond 32 bits, which patterns may compute: the same in every kind of call."""

import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.available import usable_backends

WIDE = """
pattern wide(n = 24) {
    space tokens[n]
    coord big = i * 1000000000
    attend causal and q.big <= k.big + 3000000000
}
"""


@pytest.mark.parametrize("backend", usable_backends())
@pytest.mark.parametrize("learns", [False, True])
def test_calls_of_some_queries_and_packed_ones_have_wide_coordinates(backend: str, learns: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 24, 8, dtype=torch.float64, requires_grad=learns) for _ in range(3))
    position = torch.arange(24)
    attends = (position[None] <= position[:, None]) & (position[:, None] <= position[None] + 3)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attends)
    attention = maskdsl.parse(WIDE)["wide"].bind(heads=2).compile(backend)
    torch.testing.assert_close(attention(q, k, v), expected)
    torch.testing.assert_close(attention(q[:, :, 8:12], k, v, query_start=8), expected[:, :, 8:12])
    torch.testing.assert_close(attention(q[:, :, 23:], k, v, query_start=23), expected[:, :, 23:])
    packed = (x[0].transpose(0, 1) for x in (q, k, v))
    found = attention.varlen(*packed, torch.tensor([0, 24]), torch.tensor([0, 24]))
    torch.testing.assert_close(found.transpose(0, 1)[None], expected)


def test_inputs_of_more_than_32_bits_stay_errors() -> None:
    text = WIDE.replace("    coord big = i * 1000000000\n", "    input big: int[tokens]\n")
    attention = maskdsl.parse(text)["wide"].bind().compile()
    q = torch.randn(1, 1, 24, 8)
    with pytest.raises(maskdsl.AttnError, match="E414"):
        attention(q, q, q, big=torch.arange(24) * 1000000000)

"""The layer for plain torch, against torch's own."""

from copy import deepcopy

import pytest
import torch
from torch import nn

import maskdsl
from maskdsl.nn import SelfAttention

TEXT = """
pattern local(n, size = 8) { space tokens[n] attend causal and backward(size) }
pattern packed(n) { space tokens[n] input document: int[tokens] attend causal and same(document) }
"""
MODULE = maskdsl.parse(TEXT)
LOCAL = MODULE["local"]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("bias", [True, False])
def test_like_torchs_own_layer(bias):
    """Results and all gradients."""
    theirs = nn.MultiheadAttention(32, 4, bias=bias, batch_first=True)
    ours = SelfAttention.like(theirs, LOCAL, size=5)
    x = torch.randn(2, 21, 32, requires_grad=True)
    hidden = ~torch.tensor(LOCAL.bind(n=21, size=5).dense())
    expected = theirs(x, x, x, attn_mask=hidden, need_weights=False)[0]
    found = ours(x)
    torch.testing.assert_close(found, expected)
    toward = torch.randn_like(found)
    leaves = [x, ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight, ours.out_proj.weight]
    slopes = torch.autograd.grad((found * toward).sum(), leaves)
    own = torch.autograd.grad((expected * toward).sum(), [x, theirs.in_proj_weight, theirs.out_proj.weight])
    torch.testing.assert_close(slopes[0], own[0])
    torch.testing.assert_close(torch.cat(slopes[1:4]), own[1])
    torch.testing.assert_close(slopes[4], own[2])


def test_turned_by_complex_numbers():
    """Rotary embeddings and shared keys, in torch's own operations written another way."""
    layer = SelfAttention(32, 4, LOCAL, key_heads=2, head_dim=6, rope=100.0, bias=False)
    x = torch.randn(2, 13, 32)

    def turned(states):
        angles = torch.outer(torch.arange(13.0), 100.0 ** (-torch.arange(3) / 3))
        real, imaginary = states.chunk(2, dim=-1)
        product = torch.complex(real, imaginary) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat([product.real, product.imag], dim=-1)

    q, k, v = (each(x).view(2, 13, -1, 6).transpose(1, 2) for each in (layer.q_proj, layer.k_proj, layer.v_proj))
    seen = torch.tensor(LOCAL.bind(n=13).dense())
    out = nn.functional.scaled_dot_product_attention(turned(q), turned(k), v, attn_mask=seen, enable_gqa=True)
    torch.testing.assert_close(layer(x), layer.out_proj(out.transpose(1, 2).reshape(2, 13, 24)))


def test_lengths_and_inputs():
    layer = SelfAttention(16, 2, MODULE["packed"])
    x = torch.randn(1, 20, 16)
    document = torch.arange(20) // 8
    parts = [layer(part, document=torch.zeros(part.shape[1], dtype=torch.int64)) for part in x.split(8, dim=1)]
    torch.testing.assert_close(layer(x, document=document), torch.cat(parts, dim=1))
    with pytest.raises(maskdsl.AttnError, match="E410"):
        layer(x)


def test_state_copies_and_types():
    layer = SelfAttention(16, 2, LOCAL, rope=1e4)
    x = torch.randn(1, 9, 16)
    assert {name.split(".")[0] for name in layer.state_dict()} == {"q_proj", "k_proj", "v_proj", "out_proj"}
    other = SelfAttention(16, 2, LOCAL.bind(n=9), rope=1e4)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(x), layer(x))
    torch.testing.assert_close(deepcopy(layer)(x), layer(x), rtol=0, atol=0)
    assert layer.bfloat16()(x.bfloat16()).dtype == torch.bfloat16
    assert "local" in repr(layer)


def test_compiled_in_one_graph():
    layer = nn.Sequential(nn.LayerNorm(16), SelfAttention(16, 2, LOCAL, key_heads=1, rope=1e4))
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (20, 33):
        x = torch.randn(2, length, 16)
        torch.testing.assert_close(compiled(x), layer(x))


@pytest.mark.parametrize(
    ("arguments", "options", "code"),
    [
        ((30, 4, LOCAL), {}, "E623"),
        ((30, 0, LOCAL), {}, "E460"),
        ((32, 4, LOCAL), {"key_heads": 3}, "E623"),
        ((12, 4, LOCAL), {"rope": 1e4}, "E624"),
        ((32, 4, "local"), {}, "E611"),
        ((32, 4, LOCAL.bind(n=9)), {"size": 3}, "E617"),
        ((32, 4, LOCAL), {"sizes": 3}, "no parameter"),
    ],
)
def test_mistakes(arguments, options, code):
    with pytest.raises(maskdsl.AttnError, match=code):
        SelfAttention(*arguments, **options)


def test_pairs_are_dropped_in_training_alone():
    layer = SelfAttention.like(nn.MultiheadAttention(32, 4, dropout=0.5), LOCAL)
    x = torch.randn(1, 9, 32, generator=torch.Generator().manual_seed(0))
    first, second = layer(x), layer(x)
    assert layer.dropout == 0.5 and not torch.equal(first, second)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(first, layer(x))
    plain = SelfAttention(32, 4, LOCAL)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.eval()(x), plain(x))


def test_layers_that_are_not_alike():
    with pytest.raises(maskdsl.AttnError, match="E625"):
        SelfAttention.like(nn.MultiheadAttention(16, 2, add_zero_attn=True), LOCAL)

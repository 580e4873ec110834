"""The sinks of gpt-oss: the library's own attention function, and whose sinks count where a pattern has some."""

from types import SimpleNamespace

import pytest
import torch

import maskdsl

transformers = pytest.importorskip("transformers")
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward  # noqa: E402

from maskdsl.integrations import transformers as integration  # noqa: E402

MODULE = maskdsl.parse("""
pattern sunk(n, size = 5) {
    space tokens[n]
    input logit: float[heads]
    attend causal and backward(size)
    let of_head = logit[head]
    sink of_head
}
pattern named(n) { space tokens[n] input s_aux: float[heads] attend causal and backward(5) sink s_aux[head] }
pattern plain(n, size = 5) { space tokens[n] attend causal and backward(size) }
pattern fixed(n) { space tokens[n] attend causal sink 0.0 }
pattern two(n) { space tokens[n] input a: float[heads] input b: float[heads] attend causal sink a[head] sink b[head] }
pattern branched(n) { space tokens[n] branch one { attend causal } branch other { attend causal weight 0.5 } }
""")


def leaves(tokens, dtype=torch.float64):
    """q, k, v and sinks, for 4 heads of which 2 share each key head."""
    generator = torch.Generator().manual_seed(5)
    shapes = (2, 4, tokens, 8), (2, 2, tokens, 8), (2, 2, tokens, 8), (4,)
    drawn = (torch.randn(each, generator=generator, dtype=torch.float64) for each in shapes)
    return [each.to(dtype).requires_grad_() for each in drawn]


def eager(q, k, v, sinks, size=5):
    """The library's function, with its mask of a window."""
    module = SimpleNamespace(num_key_value_groups=2, sinks=sinks, training=False)
    i = torch.arange(q.shape[2])
    apart = i[:, None] - i
    mask = torch.zeros(q.shape[2], q.shape[2], dtype=q.dtype).masked_fill((apart < 0) | (apart >= size), -torch.inf)
    return eager_attention_forward(module, q, k, v, mask, scaling=q.shape[-1] ** -0.5)[0].transpose(1, 2)


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("tokens", [1, 13])
def test_the_librarys_function(backend, tokens):
    attention = MODULE["sunk"].bind(n=tokens, heads=4).compile(backend)
    results = []
    for compute in (lambda q, k, v, sinks: attention(q, k, v, logit=sinks), eager):
        given = leaves(tokens)
        out = compute(*given)
        results.append([out, *torch.autograd.grad(out.sin().sum(), given)])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def called(name, pattern, **others):
    """A layer's call, as the library makes it, without padding."""
    integration.register(name, pattern)
    module = torch.nn.Module()
    module.is_causal = True
    q, k, v, sinks = leaves(13, torch.float32)
    patterns = integration.REGISTERED[name]
    out, _ = integration._attention_forward(patterns, module, q, k, v, None, s_aux=sinks, **others)
    return out.transpose(1, 2), (q, k, v, sinks)


@pytest.mark.parametrize("name", ["sunk", "named", "plain"])
@pytest.mark.parametrize("bound", [False, True], ids=["any length", "bound"])
def test_sinks_of_the_model_count_once(name, bound):
    """Where the pattern's sinks read them, by whatever name, and where it has none."""
    out, given = called("once", MODULE[name].bind(n=13, heads=4) if bound else MODULE[name])
    torch.testing.assert_close(out, eager(*given), rtol=1e-4, atol=1e-5)


def test_sinks_that_the_caller_gives_are_the_only_ones():
    other = torch.tensor([1.0, -1.0, 0.5, 2.0])
    out, (q, k, v, _) = called("given", MODULE["sunk"], logit=other)
    torch.testing.assert_close(out, eager(q, k, v, other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["fixed", "two", "branched"])
def test_sinks_that_nobody_can_tell_apart_are_refused(name):
    with pytest.raises(maskdsl.AttnError, match="E615"):
        called("refused", MODULE[name])

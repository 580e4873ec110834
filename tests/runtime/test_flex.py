"""What FlexAttention is told: its results are ours, and its tiles those that torch finds pair by pair."""

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

import maskdsl
from tests.runtime.random_patterns import bound, inputs_of

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")

MIXED = """
pattern mixed(n = 200, size = 48) {
    space tokens[n]
    input document: int[batch, tokens]
    input slope: float[heads]
    attend causal and (backward(size) or k < 3) and same(document) if head < 2 else window(11)
    score s - slope[head] * (q - k)
    score 5 * tanh(s / 5)
}
"""


def mixed():
    document = torch.stack([torch.arange(200) // 90, torch.arange(200) // 33])
    return maskdsl.parse(MIXED)["mixed"].bind(heads=4), {"document": document, "slope": torch.rand(4)}


def tensors(mask, batch=2, key_heads=2, dtype=torch.float32):
    q = torch.randn(batch, mask.heads, mask.query_length, 16, dtype=dtype)
    k, v = torch.randn(2, batch, key_heads, mask.given_key_length, 16, dtype=dtype)
    return q, k, v


def check_tiles(mask, parts):
    """Against those that torch finds, full and partial ones; where all heads agree, ours are those of one."""
    block_mask, heads = parts.block_mask, parts.block_mask.kv_num_blocks.shape[1]
    entries = block_mask.kv_num_blocks.shape[0]
    lengths = mask.query_length, mask.key_length
    found = create_block_mask(parts.mask_mod, entries, heads, *lengths, "cpu", block_mask.BLOCK_SIZE)
    names = (
        "kv_num_blocks",
        "kv_indices",
        "full_kv_num_blocks",
        "full_kv_indices",
        "q_num_blocks",
        "full_q_num_blocks",
    )
    for name in names:
        ours, theirs = getattr(block_mask, name), getattr(found, name)
        if "indices" in name:  # what stands behind the last block means nothing
            counts = getattr(found, name.replace("indices", "num_blocks"))
            behind = torch.arange(ours.shape[-1]) >= counts[..., None]
            ours, theirs = ours.masked_fill(behind, 0), theirs.masked_fill(behind, 0)
        torch.testing.assert_close(ours, theirs, check_dtype=False, msg=name)


@pytest.mark.thinned(2, "seed")
@pytest.mark.parametrize("seed", range(12))
def test_random_patterns(seed):
    mask, layout = bound(seed), ["declared", "ordered"][seed % 2]
    attention, inputs = mask.compile("reference"), inputs_of(mask, 2)
    if mask.ir.weight is not None or mask.ir.factor is not None:
        with pytest.raises(maskdsl.AttnError, match="E602" if mask.ir.weight is not None else "E604"):
            attention.to_flex(layout=layout, **inputs)
        return
    parts = attention.to_flex(block=(16, 16), layout=layout, batch=2, **inputs)
    q, k, v = tensors(mask, key_heads=1, dtype=torch.float64)
    out, lse = attention(q, k, v, layout=layout, return_lse=True, **inputs)
    flex_out, flex_lse = flex_attention(q, k, v, return_lse=True, **parts.arguments)
    torch.testing.assert_close(flex_out, out, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(flex_lse, lse, rtol=1e-9, atol=1e-9, check_dtype=False)
    check_tiles(mask, parts)


@pytest.mark.parametrize(
    ("path", "name", "values"),
    [
        ("language/longformer.attn", "longformer", {"n": 200, "size": 32}),
        ("language/t5.attn", "t5", {"n": 150}),
        ("vision/neighborhood.attn", "na2", {"h": 14, "w": 11, "kernel": (5, 3)}),
        ("vision/swin_bias.attn", "swin_bias", {"h": 14, "w": 14}),
        ("vision/scale_dit.attn", "scale_dit", {"text": 20, "h": 12, "w": 12, "tile": 4}),
        ("language/cross_attention.attn", "aligned", {"targets": 100, "sources": 170, "size": 31}),
    ],
)
def test_examples(path, name, values):
    module = maskdsl.load(f"examples/{path}")
    mask = module[name].bind(heads=4, **values)
    inputs = inputs_of(mask, 2)
    attention = mask.compile()
    q, k, v = tensors(mask)
    parts = attention.to_flex(block=(32, 32), **inputs)
    torch.testing.assert_close(flex_attention(q, k, v, **parts.arguments), attention(q, k, v, **inputs))
    check_tiles(mask, parts)


def test_heads_and_documents_of_their_own():
    mask, inputs = mixed()
    attention, (q, k, v) = mask.compile(), tensors(mask)
    parts = attention.to_flex(block=(32, 64), **inputs)
    assert parts.block_mask.shape == (2, 4, 200, 200)
    torch.testing.assert_close(flex_attention(q, k, v, **parts.arguments), attention(q, k, v, **inputs))
    check_tiles(mask, parts)


def test_compiled():
    """By torch's compiler, with tiles of both kinds; the functions close over inputs."""
    mask, inputs = mixed()
    attention, (q, k, v) = mask.compile(), tensors(mask)
    parts = attention.to_flex(block=(16, 16), **inputs)
    assert int(parts.block_mask.full_kv_num_blocks.sum())
    out = torch.compile(flex_attention)(q, k, v, **parts.arguments)
    torch.testing.assert_close(out, attention(q, k, v, **inputs))


def test_no_work_on_pairs():
    """A window over half a million tokens: torch's own lists of blocks are all that grows."""
    text = "pattern local(n = 2 ** 19) { space tokens[n] attend causal and backward(1000) }"
    parts = maskdsl.parse(text)["local"].bind().compile().to_flex(block=(1024, 1024))
    assert parts.score_mod is None and parts.scale is None
    assert parts.block_mask.kv_num_blocks[0, 0].tolist() == [1] + 511 * [2]


def test_the_text():
    mask = maskdsl.parse("pattern p(n = 64) { space a[n] attend causal and backward(9) }")["p"].bind()
    text = mask.compile().to_flex().source
    assert "def mask_mod(batch, head, q_i, k_i):" in text
    assert "        return (k_i <= q_i) & (0 <= difference) & (difference < 9)\n" in text
    assert "score_mod = None" in text and "token_value" not in text


def test_inputs_that_nothing_reads():
    """May be given, or left out."""
    mask = maskdsl.parse("pattern p(n = 64) { space a[n] input w: float[heads] attend causal }")["p"].bind()
    for given in ({}, {"w": torch.ones(1)}):
        assert mask.compile().to_flex(**given).block_mask.shape == (1, 1, 64, 64)


def test_positions_of_the_ordered_layout():
    mask = maskdsl.load("examples/vision/neighborhood.attn")["na2"].bind(h=8, w=8, kernel=(3, 3), order="by x, y")
    parts = mask.compile().to_flex(layout="ordered")
    assert parts.query_positions.flatten().tolist() == np.arange(64).reshape(8, 8).T.ravel().tolist()
    assert mask.compile().to_flex().query_positions is None


POOLED = "pattern p(n = 64) { space a[n] space b = mean(a, 8) queries a keys b attend all -> all }"
SUNK = "pattern p(n = 64) { space a[n] attend causal sink 0.0 }"
GATED = "pattern p(n = 64) { space a[n] input gate: float[heads] attend causal weight gate[head] }"
WEIGHED = "pattern p(n = 64) { space a[n] attend causal weight 0.5 if q == k else 1.0 }"
SIGMOID = "pattern p(n = 64) { space a[n] attend causal score sigmoid(s) normalize none }"
DRAWN = "pattern p(n = 64) { space a[n] coord c = i // 8 route r = draw(2, 7) where q.c != k.c attend r }"
ROUTED = "pattern p(n = 64) { space a[n] coord c = i // 8 route r = topk(2, dot(q, mean(k by c))) attend r }"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (POOLED, "E601"),
        (WEIGHED, "E602"),
        (ROUTED, "E603"),
        (DRAWN, "E603"),
        (GATED, "E604"),
        (SUNK, "E605"),
        (SIGMOID, "E496"),
    ],
)
def test_what_it_cannot_express(text, code):
    with pytest.raises(maskdsl.AttnError, match=code):
        maskdsl.parse(text)["p"].bind().compile().to_flex()


BRANCHED = """
pattern whole(n = 40) {
    space tokens[n]
    input slope: float[heads]
    branch near { attend window(9) }
    branch past { attend causal  score s - slope[head] * (q - k) }
}
pattern finished(n = 40) {
    space tokens[n]
    input logit: float[heads]
    input gate: float[heads]
    attend window(9)
    sink logit[head]
    weight gate[head]
}
pattern plain(n = 40) { space tokens[n] attend window(9) }
"""


def test_branches_are_several_calls():
    """As the refusal says."""
    mask, slope = maskdsl.parse(BRANCHED)["whole"].bind(heads=2), torch.tensor([0.5, 0.1])
    q, k, v = tensors(mask, key_heads=1)
    with pytest.raises(maskdsl.AttnError, match=r"E472(?s:.)*for branch in mask\.branches"):
        mask.compile().to_flex(slope=slope)
    given = {"near": {}, "past": {"slope": slope}}
    found = sum(
        flex_attention(q, k, v, **branch.compile().to_flex(**given[branch.branch]).arguments)
        for branch in mask.branches
    )
    torch.testing.assert_close(found, mask.compile()(q, k, v, slope=slope))


def test_sinks_and_gates_follow_a_call():
    """As the refusals say."""
    module, logit, gate = maskdsl.parse(BRANCHED), torch.tensor([0.5, -1.0]), torch.tensor([2.0, -0.5])
    mask, plain = (module[name].bind(heads=2) for name in ("finished", "plain"))
    q, k, v = tensors(mask, key_heads=1)
    with pytest.raises(maskdsl.AttnError, match=r"E604(?s:.)*E605(?s:.)*sigmoid\(lse - sink\)"):
        mask.compile().to_flex(logit=logit, gate=gate)
    out, lse = flex_attention(q, k, v, return_lse=True, **plain.compile().to_flex().arguments)
    found = out * torch.sigmoid(lse - logit[:, None])[..., None] * gate[:, None, None]
    torch.testing.assert_close(found, mask.compile()(q, k, v, logit=logit, gate=gate))


def test_wrong_inputs():
    mask, inputs = mixed()
    attention = mask.compile()
    for given, code in (
        ({}, "E410"),
        ({**inputs, "documents": 1}, "E411"),
        ({**inputs, "slope": torch.rand(3)}, "E412"),
        ({**inputs, "layout": "laid out"}, "E422"),
    ):
        with pytest.raises(maskdsl.AttnError, match=code):
            attention.to_flex(**given)

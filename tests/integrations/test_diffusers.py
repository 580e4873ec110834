"""Transformers of diffusers with patterns: dense ones give the model's own result, others that of a mask of pairs."""

from copy import deepcopy

import pytest
import torch
from torch.overrides import TorchFunctionMode

import maskdsl

diffusers = pytest.importorskip("diffusers")
from maskdsl.integrations import diffusers as integration  # noqa: E402

NEAR = """
pattern near_image(text_length, h, w, kernel = (3, 3)) {
    space text[text_length]
    space image[y = h, x = w]
    tokens text ++ image
    attend text -> all
    attend all -> text
    attend image -> image where neighborhood(kernel)
}
pattern near_video(frames, h, w, kernel = (3, 3, 3)) {
    space video[t = frames, y = h, x = w]
    attend neighborhood(kernel)
}
"""
MODULE = maskdsl.parse(NEAR)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small only wait for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def flux():
    """5 tokens of text, then 4 x 6 of an image."""
    model = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=[4, 4, 8],
    )
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(6.0))
    given = {
        "hidden_states": torch.randn(2, 24, 4),
        "encoder_hidden_states": torch.randn(2, 5, 8),
        "pooled_projections": torch.randn(2, 8),
        "timestep": torch.tensor([1.0, 0.3]),
        "img_ids": places,
        "txt_ids": torch.zeros(5, 3),
    }
    return model, given, MODULE["near_image"].bind(text_length=5, h=4, w=6)


def wan():
    """2 x 4 x 4 tokens of a video, which also attend a text."""
    model = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        num_layers=2,
        rope_max_seq_len=16,
    )
    given = {
        "hidden_states": torch.randn(1, 4, 3, 8, 8),
        "timestep": torch.tensor([3]),
        "encoder_hidden_states": torch.randn(1, 6, 8),
    }
    return model, given, MODULE["near_video"].bind(frames=3, h=4, w=4)


def cogvideo():
    """5 tokens of text, then 2 x 4 x 4 of a video, seen as an image of 8 x 4."""
    model = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        time_embed_dim=4,
        text_embed_dim=8,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=5,
    )
    given = {
        "hidden_states": torch.randn(1, 2, 4, 8, 8),
        "encoder_hidden_states": torch.randn(1, 5, 8),
        "timestep": torch.tensor([2]),
    }
    return model, given, MODULE["near_image"].bind(text_length=5, h=8, w=4)


class Masked(TorchFunctionMode):
    """The reference: torch's attention with a mask of pairs, among as many tokens."""

    def __init__(self, pairs):
        super().__init__()
        self.pairs = pairs

    def __torch_function__(self, func, types, args=(), kwargs=None):
        named = dict(kwargs or {})
        own = func is torch.nn.functional.scaled_dot_product_attention
        given = dict(zip(("query", "key"), args, strict=False)) | named
        if own and given["query"].shape[2] == given["key"].shape[2]:
            named["attn_mask"] = self.pairs
        return func(*args, **named)


@pytest.fixture(params=[flux, wan, cogvideo], ids=["flux", "wan", "cogvideox"])
def case(request):
    torch.manual_seed(0)
    model, given, mask = request.param()
    return model.eval(), given, mask


def result(model, given):
    return model(**given, return_dict=False)[0]


def test_dense(case):
    model, given, _ = case
    expected = result(model, given)
    integration.use(model, MODULE["dense"])
    torch.testing.assert_close(result(model, given), expected)


def test_neighbourhoods_and_gradients(case):
    model, given, mask = case
    whole = result(model, given)
    with Masked(torch.tensor(mask.dense())):
        expected = result(model, given)
    integration.use(model, mask)
    found = result(model, given)
    torch.testing.assert_close(found, expected)
    assert (found - whole).abs().max() > 1e-3
    found.square().sum().backward()
    ours = {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}
    integration.restore(model)
    model.zero_grad()
    with Masked(torch.tensor(mask.dense())):
        result(model, given).square().sum().backward()
    for name, grad in ours.items():
        torch.testing.assert_close(grad, model.get_parameter(name).grad, rtol=1e-4, atol=1e-4, msg=name)
    torch.testing.assert_close(result(model, given), whole)


def test_stable_diffusion_3_has_text_behind_the_image():
    torch.manual_seed(0)
    model = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=16,
        out_channels=4,
        pooled_projection_dim=8,
        pos_embed_max_size=8,
    ).eval()
    given = {
        "hidden_states": torch.randn(1, 4, 8, 8),
        "encoder_hidden_states": torch.randn(1, 5, 8),
        "pooled_projections": torch.randn(1, 8),
        "timestep": torch.tensor([5]),
    }
    expected = result(model, given)
    integration.use(model, MODULE["dense"])
    torch.testing.assert_close(result(model, given), expected)
    text = NEAR.replace("text ++ image", "image ++ text")
    mask = maskdsl.parse(text)["near_image"].bind(text_length=5, h=4, w=4)
    integration.use(model, mask)
    found = result(model, given)
    integration.restore(model)
    with Masked(torch.tensor(mask.dense())):
        torch.testing.assert_close(found, result(model, given))


def test_copies_and_one_graph():
    torch.manual_seed(0)
    model, given, mask = wan()
    integration.use(model.eval(), mask)
    expected = result(model, given)
    torch.testing.assert_close(result(deepcopy(model), given), expected)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(**given, return_dict=False)[0], expected)


def test_layers_of_their_own():
    torch.manual_seed(0)
    model, given, mask = wan()
    names = [*integration.attentions(model)]
    assert names == ["blocks.0.attn1", "blocks.1.attn1"]
    whole = MODULE["dense"]
    by_number = {}
    for pattern in ({0: mask, 1: whole}, {"blocks.0.attn1": mask, "blocks.1.attn1": whole}):
        integration.use(model, pattern)
        by_number[len(by_number)] = result(model, given)
    integration.use(model, lambda number, name: whole if number else mask)
    torch.testing.assert_close(by_number[0], result(model, given), rtol=0, atol=0)
    torch.testing.assert_close(by_number[1], result(model, given), rtol=0, atol=0)
    with pytest.raises(maskdsl.AttnError, match="E613"):
        integration.use(model, {0: mask})


def test_mistakes():
    model, given, mask = flux()
    with pytest.raises(maskdsl.AttnError, match="E611"):
        integration.use(model, "near")
    with pytest.raises(maskdsl.AttnError, match="E618"):
        integration.use(torch.nn.Linear(2, 2), mask)
    integration.use(model, wan()[2])
    with pytest.raises(maskdsl.AttnError, match="E407"):
        result(model, given)
    integration.use(model, mask)
    own_mask = {"attention_mask": torch.ones(29, 29, dtype=torch.bool).tril()}
    with pytest.raises(maskdsl.AttnError, match="E614"):
        result(model, {**given, "joint_attention_kwargs": own_mask})
    for each in integration.attentions(model).values():
        each.processor.processor = lambda attn, hidden_states, *_: hidden_states
    with pytest.raises(maskdsl.AttnError, match="E619"):
        result(model, given)


def ltx():
    """24 tokens of a video, which also attend as many of a text, of which some are padding: not said by a flag."""
    model = diffusers.LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=8,
    )
    present = torch.ones(1, 24, dtype=torch.long)
    present[0, 15:] = 0
    given = {
        "hidden_states": torch.randn(1, 24, 4),
        "encoder_hidden_states": torch.randn(1, 24, 8),
        "timestep": torch.tensor([3]),
        "encoder_attention_mask": present,
        "num_frames": 2,
        "height": 3,
        "width": 4,
    }
    return model, given


def qwen():
    """7 tokens of a text, of which the second has 4, then 12 of an image."""
    model = diffusers.QwenImageTransformer2DModel(
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        axes_dims_rope=(4, 4, 8),
    )
    present = torch.ones(2, 7, dtype=torch.bool)
    present[1, 4:] = False
    given = {
        "hidden_states": torch.randn(2, 12, 4),
        "encoder_hidden_states": torch.randn(2, 7, 8),
        "encoder_hidden_states_mask": present,
        "timestep": torch.tensor([1.0, 0.3]),
        "img_shapes": [[(1, 3, 4)]] * 2,
    }
    return model, given


def hunyuan():
    """A video of 2 x 2 x 2 tokens, then 6 of a text, of which the second has 4."""
    model = diffusers.HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=2,
        patch_size_t=1,
        guidance_embeds=False,
        text_embed_dim=8,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 4, 8),
    )
    present = torch.ones(2, 6, dtype=torch.long)
    present[1, 4:] = 0
    given = {
        "hidden_states": torch.randn(2, 4, 2, 4, 4),
        "timestep": torch.tensor([3, 5]),
        "encoder_hidden_states": torch.randn(2, 6, 8),
        "encoder_attention_mask": present,
        "pooled_projections": torch.randn(2, 8),
    }
    return model, given


def mochi():
    """A video of 2 x 2 x 2 tokens, then those of a text that are there."""
    model = diffusers.MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=8,
        time_embed_dim=4,
        max_sequence_length=6,
    )
    present = torch.ones(2, 6, dtype=torch.bool)
    present[1, 4:] = False
    given = {
        "hidden_states": torch.randn(2, 4, 2, 4, 4),
        "encoder_hidden_states": torch.randn(2, 6, 8),
        "timestep": torch.tensor([3, 5]),
        "encoder_attention_mask": present,
    }
    return model, given


@pytest.mark.parametrize("make", [ltx, qwen, hunyuan, mochi])
def test_padding_of_texts(make):
    """Keys that the model's mask hides from all are not there; text alone is left to the model."""
    torch.manual_seed(0)
    model, given = make()
    model.eval()
    expected = result(model, given)
    integration.use(model, lambda number, name: None if "refiner" in name else MODULE["dense"])
    found = result(model, given)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in model.parameters() if x.grad is not None)
    integration.use(model, lambda number, name: None)
    torch.testing.assert_close(result(model, given), expected)


def test_vouching():
    """For a mask that the pattern says."""
    torch.manual_seed(0)
    model, given, _ = flux()
    causal = torch.ones(29, 29, dtype=torch.bool).tril()
    given["joint_attention_kwargs"] = {"attention_mask": causal}
    with Masked(causal):
        expected = result(model.eval(), given)
    integration.use(model, MODULE["causal_dense"], masks="pattern")
    torch.testing.assert_close(result(model, given), expected)
    with pytest.raises(maskdsl.AttnError, match="E628"):
        integration.use(model, MODULE["causal_dense"], masks="model")

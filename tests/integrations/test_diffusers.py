"""Transformers of diffusers with patterns: dense ones give the model's own result, others that of a mask of pairs."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

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
BEHIND = NEAR.replace("text ++ image", "image ++ text").replace("near_", "behind_")
"""Text behind the image."""
MODULE = maskdsl.parse(NEAR + BEHIND)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Models this small only wait for threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SIZES = {
    1: "num_layers num_single_layers num_refiner_layers",
    2: "num_attention_heads patch_size",
    4: "in_channels out_channels time_embed_dim temporal_compression_ratio",
    5: "sample_frames max_text_seq_length",
    6: "max_sequence_length",
    8: "joint_attention_dim pooled_projection_dim text_embed_dim text_dim caption_channels sample_size sample_width"
    " sample_height pos_embed_max_size",
    16: "attention_head_dim freq_dim ffn_dim caption_projection_dim rope_max_seq_len",
}
SIZE = {name: size for size, names in SIZES.items() for name in names.split()}


@dataclass(frozen=True)
class Model:
    """A transformer of diffusers with the sizes above, a call of it, and a pattern for the tokens of that call."""

    kind: str
    given: Mapping[str, Any]
    """What a call is given; tuples are the shapes of random numbers."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    """Those that are not the ones above, and what else it needs."""
    near: tuple[str, Mapping[str, int]] | None = None
    """The name of the pattern, and what it is bound with."""

    def made(self) -> tuple[torch.nn.Module, dict[str, Any]]:
        torch.manual_seed(0)
        kind = getattr(diffusers, self.kind)
        model = kind(**{name: SIZE[name] for name in signature(kind).parameters if name in SIZE} | self.sizes)
        return model.eval(), {name: torch.randn(x) if isinstance(x, tuple) else x for name, x in self.given.items()}

    @property
    def mask(self) -> maskdsl.Mask:
        name, lengths = self.near
        return MODULE[name].bind(**lengths)


def present(lengths, among, dtype=torch.bool):
    """Which tokens of texts are there."""
    return (torch.arange(among) < torch.tensor(lengths)[:, None]).to(dtype)


FLUX = Model(
    "FluxTransformer2DModel",
    {
        "hidden_states": (2, 24, 4),
        "encoder_hidden_states": (2, 5, 8),
        "pooled_projections": (2, 8),
        "timestep": torch.tensor([1.0, 0.3]),
        "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(6.0)),
        "txt_ids": torch.zeros(5, 3),
    },
    {"patch_size": 1, "axes_dims_rope": [4, 4, 8]},
    ("near_image", {"text_length": 5, "h": 4, "w": 6}),
)
WAN = Model(
    "WanTransformer3DModel",
    {"hidden_states": (1, 4, 3, 8, 8), "timestep": torch.tensor([3]), "encoder_hidden_states": (1, 6, 8)},
    {"patch_size": (1, 2, 2), "attention_head_dim": 12, "num_layers": 2},
    ("near_video", {"frames": 3, "h": 4, "w": 4}),
)
COGVIDEOX = Model(  # 2 x 4 x 4 tokens of a video, seen as an image of 8 x 4
    "CogVideoXTransformer3DModel",
    {"hidden_states": (1, 2, 4, 8, 8), "encoder_hidden_states": (1, 5, 8), "timestep": torch.tensor([2])},
    near=("near_image", {"text_length": 5, "h": 8, "w": 4}),
)
STABLE_DIFFUSION_3 = Model(
    "SD3Transformer2DModel",
    {
        "hidden_states": (1, 4, 8, 8),
        "encoder_hidden_states": (1, 5, 8),
        "pooled_projections": (1, 8),
        "timestep": torch.tensor([5]),
    },
    {"attention_head_dim": 8, "num_layers": 2},
    ("behind_image", {"text_length": 5, "h": 4, "w": 4}),
)
LTX = Model(  # no flag says that its video attends a text, which has as many tokens
    "LTXVideoTransformer3DModel",
    {
        "hidden_states": (1, 24, 4),
        "encoder_hidden_states": (1, 24, 8),
        "encoder_attention_mask": present([15], 24, torch.long),
        "timestep": torch.tensor([3]),
        "num_frames": 2,
        "height": 3,
        "width": 4,
    },
    {"patch_size": 1, "cross_attention_dim": 32},
)
QWEN = Model(
    "QwenImageTransformer2DModel",
    {
        "hidden_states": (2, 12, 4),
        "encoder_hidden_states": (2, 7, 8),
        "encoder_hidden_states_mask": present([7, 4], 7),
        "timestep": torch.tensor([1.0, 0.3]),
        "img_shapes": [[(1, 3, 4)]] * 2,
    },
    {"patch_size": 1, "axes_dims_rope": (4, 4, 8)},
)
HUNYUAN = Model(
    "HunyuanVideoTransformer3DModel",
    {
        "hidden_states": (2, 4, 2, 4, 4),
        "encoder_hidden_states": (2, 6, 8),
        "encoder_attention_mask": present([6, 4], 6, torch.long),
        "pooled_projections": (2, 8),
        "timestep": torch.tensor([3, 5]),
    },
    {"patch_size_t": 1, "guidance_embeds": False, "rope_axes_dim": (4, 4, 8)},
)
MOCHI = Model(  # keys are those of the video and those of the text that are there
    "MochiTransformer3DModel",
    {
        "hidden_states": (2, 4, 2, 4, 4),
        "encoder_hidden_states": (2, 6, 8),
        "encoder_attention_mask": present([6, 4], 6),
        "timestep": torch.tensor([3, 5]),
    },
    {"attention_head_dim": 8, "num_layers": 2, "pooled_projection_dim": 16},
)
CHROMA = Model(  # its mask hides padding of the text from all, and everything from that padding
    "ChromaTransformer2DModel",
    {
        "hidden_states": (2, 12, 4),
        "encoder_hidden_states": (2, 5, 8),
        "timestep": torch.tensor([1.0, 0.3]),
        "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(3.0), torch.arange(4.0)),
        "txt_ids": torch.zeros(5, 3),
        "attention_mask": torch.cat([present([5, 3], 5), present([12, 12], 12)], dim=1),
    },
    {"patch_size": 1, "axes_dims_rope": [4, 4, 8], "approximator_hidden_dim": 16, "approximator_layers": 1},
)
ALLEGRO = Model(  # a video whose second entry is narrower, and padded
    "AllegroTransformer3DModel",
    {
        "hidden_states": (2, 4, 2, 4, 8),
        "encoder_hidden_states": (2, 6, 8),
        "timestep": torch.tensor([3, 5]),
        "attention_mask": present([8, 4], 8, torch.long)[:, None, None].expand(2, 2, 4, 8),
        "encoder_attention_mask": present([6, 4], 6, torch.long),
    },
    {"cross_attention_dim": 32},
)
BY_PATTERN = {"flux": FLUX, "wan": WAN, "cogvideox": COGVIDEOX, "sd3": STABLE_DIFFUSION_3}
PADDED = {"ltx": LTX, "qwen": QWEN, "hunyuan": HUNYUAN, "mochi": MOCHI, "chroma": CHROMA, "allegro": ALLEGRO}


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


@pytest.fixture(params=BY_PATTERN.values(), ids=BY_PATTERN)
def case(request):
    return *request.param.made(), request.param.mask


def result(model, given):
    return model(**given, return_dict=False)[0]


def result_and_gradients(model, given):
    """The result, and the gradients of all weights that it has."""
    model.zero_grad()
    out = result(model, given)
    out.square().sum().backward()
    return out, {name: x.grad.clone() for name, x in model.named_parameters() if x.grad is not None}


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


def test_copies_and_one_graph():
    model, given = WAN.made()
    integration.use(model, WAN.mask)
    expected = result(model, given)
    torch.testing.assert_close(result(deepcopy(model), given), expected)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(**given, return_dict=False)[0], expected)


def test_layers_of_their_own():
    (model, given), mask = WAN.made(), WAN.mask
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
    (model, given), mask = FLUX.made(), FLUX.mask
    with pytest.raises(maskdsl.AttnError, match="E611"):
        integration.use(model, "near")
    with pytest.raises(maskdsl.AttnError, match="E618"):
        integration.use(torch.nn.Linear(2, 2), mask)
    integration.use(model, WAN.mask)
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


@pytest.mark.parametrize("made", PADDED.values(), ids=PADDED)
def test_padding_of_texts(made):
    """Keys that the model's mask hides from all are not there; text alone is left to the model. With all gradients."""
    model, given = made.made()
    expected, wanted = result_and_gradients(model, given)
    integration.use(model, lambda number, name: None if "refiner" in name else MODULE["dense"])
    found, gradients = result_and_gradients(model, given)
    torch.testing.assert_close(found, expected)
    for name, grad in gradients.items():
        torch.testing.assert_close(grad, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    integration.use(model, lambda number, name: None)
    torch.testing.assert_close(result(model, given), expected)


def test_vouching():
    """For a mask that the pattern says."""
    model, given = FLUX.made()
    causal = torch.ones(29, 29, dtype=torch.bool).tril()
    given["joint_attention_kwargs"] = {"attention_mask": causal}
    with Masked(causal):
        expected = result(model, given)
    integration.use(model, MODULE["causal_dense"], masks="pattern")
    torch.testing.assert_close(result(model, given), expected)
    with pytest.raises(maskdsl.AttnError, match="E628"):
        integration.use(model, MODULE["causal_dense"], masks="model")

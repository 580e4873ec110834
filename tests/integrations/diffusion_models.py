"""Transformers of diffusers made small, each with a call of it, and a pattern for its tokens."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import diffusers
import torch

import maskdsl

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

OTHERS = {
    "pixart": Model(
        "PixArtTransformer2DModel",
        {
            "hidden_states": (2, 4, 8, 8),
            "encoder_hidden_states": (2, 6, 8),
            "timestep": torch.tensor([3, 5]),
            "encoder_attention_mask": present([6, 4], 6, torch.long),
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        },
        {"cross_attention_dim": 32, "norm_num_groups": 4, "use_additional_conditions": False},
    ),
    "auraflow": Model(
        "AuraFlowTransformer2DModel",
        {"hidden_states": (2, 4, 8, 8), "encoder_hidden_states": (2, 5, 8), "timestep": torch.tensor([0.3, 0.5])},
        {"num_mmdit_layers": 1, "num_single_dit_layers": 1, "caption_projection_dim": 32, "pos_embed_max_size": 64},
    ),
    "cogview3": Model(
        "CogView3PlusTransformer2DModel",
        {
            "hidden_states": (1, 4, 8, 8),
            "encoder_hidden_states": (1, 5, 8),
            "timestep": torch.tensor([3]),
            "original_size": torch.tensor([[8.0, 8.0]]),
            "target_size": torch.tensor([[8.0, 8.0]]),
            "crop_coords": torch.tensor([[0.0, 0.0]]),
        },
        {"condition_dim": 4, "pos_embed_max_size": 8},
    ),
    "cogview4": Model(
        "CogView4Transformer2DModel",
        {
            "hidden_states": (1, 4, 8, 8),
            "encoder_hidden_states": (1, 5, 8),
            "timestep": torch.tensor([3]),
            "original_size": torch.tensor([[8.0, 8.0]]),
            "target_size": torch.tensor([[8.0, 8.0]]),
            "crop_coords": torch.tensor([[0.0, 0.0]]),
        },
        {"condition_dim": 4, "rope_axes_dim": (8, 8)},
    ),
    "flux2": Model(
        "Flux2Transformer2DModel",
        {
            "hidden_states": (1, 24, 4),
            "encoder_hidden_states": (1, 5, 8),
            "timestep": torch.tensor([0.3]),
            "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(6.0), torch.zeros(1)),
            "txt_ids": torch.zeros(5, 4),
            "guidance": torch.tensor([3.5]),
        },
        {"patch_size": 1, "timestep_guidance_channels": 8, "axes_dims_rope": (4, 4, 4, 4)},
    ),
    "dit": Model(
        "DiTTransformer2DModel",
        {"hidden_states": (2, 4, 8, 8), "timestep": torch.tensor([3, 5]), "class_labels": torch.tensor([1, 2])},
        {"norm_num_groups": 4, "num_embeds_ada_norm": 10},
    ),
    "stable_audio": Model(  # two heads share the keys of one, in cross-attention
        "StableAudioDiTModel",
        {
            "hidden_states": (2, 4, 12),
            "timestep": torch.tensor([3.0, 5.0]),
            "encoder_hidden_states": (2, 5, 16),
            "global_hidden_states": (2, 1, 16),
        },
        {
            "num_key_value_attention_heads": 1,
            "cross_attention_dim": 16,
            "time_proj_dim": 8,
            "global_states_input_dim": 16,
            "cross_attention_input_dim": 16,
            "sample_size": 12,
        },
    ),
    "lumina2": Model(
        "Lumina2Transformer2DModel",
        {
            "hidden_states": (2, 4, 4, 4),
            "timestep": torch.tensor([0.3, 0.5]),
            "encoder_hidden_states": (2, 6, 8),
            "encoder_attention_mask": present([6, 4], 6),
        },
        {
            "hidden_size": 24,
            "num_kv_heads": 1,
            "multiple_of": 8,
            "axes_dim_rope": (4, 4, 4),
            "axes_lens": (16, 8, 8),
            "cap_feat_dim": 8,
        },
    ),
    "unet": Model(
        "UNet2DConditionModel",
        {"sample": (1, 4, 8, 8), "timestep": torch.tensor([3]), "encoder_hidden_states": (1, 5, 8)},
        {
            "num_attention_heads": None,
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 8,
            "norm_num_groups": 4,
            "attention_head_dim": 8,
        },
    ),
}

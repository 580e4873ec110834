"""Attention modules of transformers for images and videos."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from transformers import (
    Qwen2_5_VLConfig,
    SamVisionConfig,
    Swinv2Config,
    TimesformerConfig,
)
from transformers.models.hiera.modeling_hiera import HieraMaskUnitAttention, unroll
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention
from transformers.models.sam.modeling_sam import SamVisionLayer, SamVisionSdpaAttention
from transformers.models.swinv2 import modeling_swinv2
from transformers.models.timesformer.modeling_timesformer import TimesformerSelfAttention
from transformers.vision_utils import get_vision_window_index

from tests.catalogue.compared import Computes
from tests.catalogue.library import Given, joined, split

Attention = Callable[..., Tensor]


def tokens(*parts: Tensor) -> Tensor:
    """[batch, tokens, parts * heads * dim] of several [batch, heads, tokens, dim]."""
    return torch.cat([joined(x) for x in parts], dim=-1)


def part(given: Tensor, number: int) -> Tensor:
    """The queries, the keys or the values of `tokens`."""
    return given.chunk(3, dim=-1)[number]


def swin_cosine(h: int, w: int, size: int, shift: int) -> Attention:
    """A layer of it, cut into windows by the functions of its module."""

    def attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        """Library: transformers, Swinv2SelfAttention."""
        heads, dim = q.shape[1], q.shape[3]
        config = Swinv2Config(window_size=size)
        layer = modeling_swinv2.Swinv2Layer(config, heads * dim, (h, w), heads, shift_size=shift)
        module = layer.attention.self.double()
        module.query, module.key, module.value = (Given(partial(part, number=number)) for number in range(3))
        module.continuous_position_bias_mlp = Given(lambda _: table.permute(1, 2, 0))
        images = tokens(q, k, v).unflatten(1, (h, w)).roll((-shift, -shift), (1, 2))
        windows = modeling_swinv2.window_partition(images, size).flatten(1, 2)
        (out,) = module(windows, layer.get_attn_mask(h, w, q.dtype))
        image = modeling_swinv2.window_reverse(out.unflatten(1, (size, size)), size, h, w)
        return split(image.roll((shift, shift), (1, 2)).flatten(1, 2), heads)

    return attention


def cosines(q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> dict[str, Tensor]:
    """What Swin V2 makes of its projections and its network, with the scale that it begins with."""
    q, k = (nn.functional.normalize(x, dim=-1) for x in (q, k))
    scale = torch.log(torch.tensor(10.0)).to(q.dtype).exp()
    return {"q": scale * q, "k": k, "v": v, "table": 16 * table.sigmoid()}


def sam(h: int, w: int, size: int) -> Attention:
    """Windows of an image that is padded already."""

    def attention(q: Tensor, k: Tensor, v: Tensor, rh: Tensor, rw: Tensor) -> Tensor:
        """Library: transformers, SamVisionSdpaAttention."""
        heads, dim = q.shape[1], q.shape[3]
        config = SamVisionConfig(hidden_size=heads * dim, num_attention_heads=heads)
        module = SamVisionSdpaAttention(config, size)
        module.qkv = module.proj = nn.Identity()
        del module.rel_pos_h, module.rel_pos_w
        module.rel_pos_h, module.rel_pos_w = rh[0], rw[0]
        rows, columns = (math.ceil(length / size) * size for length in (h, w))
        images = tokens(q, k, v).unflatten(1, (rows, columns))
        windows, padded = SamVisionLayer.window_partition(None, images, size)
        out, _ = module(windows)
        image = SamVisionLayer.window_unpartition(None, out, size, padded, (rows, columns))
        return split(image.flatten(1, 2), heads)

    return attention


def hiera(h: int, w: int, unit: int) -> Attention:
    """Tokens in the order that makes units contiguous."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Library: transformers, HieraMaskUnitAttention."""
        heads, width = q.shape[1], q.shape[1] * q.shape[3]
        module = HieraMaskUnitAttention(width, width, heads, window_size=unit**2, use_mask_unit_attn=True)
        module.qkv = module.proj = nn.Identity()
        schedule = [[2, 2]] * int(math.log2(unit))
        out, _ = module(unroll(tokens(q, k, v), (h, w), (1, 1), schedule))
        order = unroll(torch.arange(h * w).view(1, -1, 1), (h, w), (1, 1), schedule).flatten()
        return split(out[:, order.argsort()], heads)

    return attention


def timesformer(t: int, h: int, w: int, is_spatial: bool) -> Attention:
    """One of the two attentions of a layer."""

    def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Library: transformers, TimesformerSelfAttention."""
        heads, width = q.shape[1], q.shape[1] * q.shape[3]
        module = TimesformerSelfAttention(TimesformerConfig(hidden_size=width, num_attention_heads=heads))
        given = tokens(q, k, v)

        def attend(sequences: Tensor) -> Tensor:
            """Of [sequences, tokens, channels of q, k and v]."""
            module.qkv = Given(lambda _: sequences)
            return module(sequences[:, :, :width])[0]

        if not is_spatial:
            places = given.unflatten(1, (t, h * w)).transpose(1, 2)
            out = attend(places.flatten(0, 1))
            return split(out.unflatten(0, (-1, h * w)).transpose(1, 2).flatten(1, 2), heads)
        copies, video = given[:, :t, None], given[:, t:].unflatten(1, (t, h * w))
        frames = attend(torch.cat([copies, video], dim=2).flatten(0, 1)).unflatten(0, (-1, t))
        return split(torch.cat([frames[:, :, 0], frames[:, :, 1:].flatten(1, 2)], dim=1), heads)

    return attention


WINDOW_INDEX, WINDOW_ENDS = get_vision_window_index(
    torch.tensor([[1, 6, 10], [2, 4, 8]]), spatial_merge_size=2, window_size=56, patch_size=14
)
"""Of an image of 6 x 10 patches and two frames of 4 x 8, in windows of 4 x 4."""
PATCHES = int(WINDOW_ENDS[-1])
PLACES = (WINDOW_INDEX[:, None] * 4 + torch.arange(4)).flatten()
"""The patch at each place of the order of the windows: groups of four move together."""
WINDOWS = torch.empty(PATCHES, dtype=torch.int32)
WINDOWS[PLACES] = torch.repeat_interleave(torch.arange(len(WINDOW_ENDS) - 1), WINDOW_ENDS.diff()).int()


def qwen(q: Tensor, k: Tensor, v: Tensor, window: Tensor) -> Tensor:
    """Library: transformers, Qwen2_5_VLVisionAttention."""
    heads, width = q.shape[1], q.shape[1] * q.shape[3]
    config = Qwen2_5_VLConfig().vision_config
    config.hidden_size, config.num_heads, config._attn_implementation = width, heads, "sdpa"
    module = Qwen2_5_VLVisionAttention(config)
    module.qkv = module.proj = nn.Identity()
    still = torch.ones(PATCHES, q.shape[3], dtype=q.dtype), torch.zeros(PATCHES, q.shape[3], dtype=q.dtype)
    outs = [module(each[PLACES], WINDOW_ENDS, position_embeddings=still) for each in tokens(q, k, v)]
    return split(torch.stack(outs)[:, PLACES.argsort()], heads)


def rounded(q: Tensor, k: Tensor, v: Tensor, window: Tensor) -> dict[str, Tensor]:
    """Rotated by nothing, in float32, as that module does."""
    return {"q": q.float().to(q.dtype), "k": k.float().to(k.dtype), "v": v, "window": window}


ROWS = [
    Computes(
        "vision/swinv2",
        "swin_cosine",
        {"h": h, "w": w, "size": size, "shift": shift},
        swin_cosine(h, w, size, shift),
        heads=2,
        inputs={"table": (2, 2 * size - 1, 2 * size - 1)},
        given=cosines,
    )
    for h, w, size, shift in ((6, 9, 3, 1), (8, 8, 4, 0))
]
ROWS += [
    Computes(
        "vision/sam",
        "window",
        {"h": 5, "w": 7, "size": 3},
        sam(5, 7, 3),
        heads=2,
        inputs={"rh": (1, 5, 8), "rw": (1, 5, 8)},
    )
]
ROWS += [
    Computes("vision/hiera", "mask_units", {"h": h, "w": w, "unit": unit}, hiera(h, w, unit), heads=2)
    for h, w, unit in ((4, 6, 2), (8, 12, 4))
]
ROWS += [
    Computes("vision/timesformer", name, {"t": 3, "h": 2, "w": 4}, timesformer(3, 2, 4, name == "space"), heads=2)
    for name in ("time", "space")
]
ROWS += [
    Computes("vision/qwen_vl", "windows", {"n": PATCHES}, qwen, heads=2, inputs={"window": WINDOWS}, given=rounded)
]

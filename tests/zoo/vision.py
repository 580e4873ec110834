"""Modules of transformers for images and videos."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

import maskdsl
from tests.zoo.capture import Softmaxed, attentions
from tests.zoo.families import Compared, Family, example, stirred
from tests.zoo.grids import by_offset, whole
from tests.zoo.text import made, of

PATTERNS = maskdsl.parse("""
pattern all_(n) { space tokens[n] attend all -> all }
pattern across(m, n) { space asking[m] space asked[n] queries asking keys asked attend all -> all }
pattern units(n, count) { space tokens[n] attend q % count == k % count }
pattern pooled_units(n, count, stride) {
    space given[n]
    space pooled[n // stride]
    queries pooled
    keys given
    attend q % count == k % count
}
pattern decomposed(h, w, size) {
    space image[y = h, x = w]
    input rows: float[2 * size - 1, dim]
    input columns: float[2 * size - 1, dim]
    attend q.y // size == k.y // size and q.x // size == k.x // size
    score s + dot(q, rows[q.y - k.y + size - 1]) + dot(q, columns[q.x - k.x + size - 1])
}
pattern same_part(n) { space tokens[n] input part: int[tokens] attend same(part) }
pattern same_place(p, t) { space video[place = p, t = t] attend same(place) }
pattern same_frame(t, p) { space video[t = t, place = p] attend same(t) }
""")
BIASED = example("vision", "swin_bias", "swin_bias")


def of_windows(each: Softmaxed, h: int, w: int, size: int, shift: int) -> list[Tensor]:
    """Queries, keys, values and output of windows in the order of the image."""
    return [whole(x, h, w, size, shift) for x in (each.q, each.k, each.v, each.out)]


def swin(name: str) -> Family:
    """A layer of windows and a layer of shifted ones, of an image whose sides no window divides: zeros pad it."""

    def family() -> Iterator[Compared]:
        size, (h, w), (padded_h, padded_w) = 3, (8, 10), (9, 12)
        own = {"image_size": 2 * h, "window_size": size, "patch_size": 2, "embed_dim": 32}
        model = made(name, depths=[2], num_heads=[4], **own)
        stage = model.encoder.layers[0]
        x = torch.randn(2, h * w, 32, requires_grad=True)
        for layer, each in zip(stage.blocks, attentions(stage, x, (h, w)), strict=True):
            (table,) = (p for n, p in layer.named_parameters() if n.endswith("relative_position_bias_table"))
            mask = BIASED.bind(h=padded_h, w=padded_w, size=size, shift=int(layer.shift_size), heads=4)
            vectors = of_windows(each, padded_h, padded_w, size, int(layer.shift_size))
            yield Compared(mask, *vectors, (*each.leaves, table), {"table": by_offset(table, size)})

    return family


def swin_v2() -> Iterator[Compared]:
    """Cosines with a learned scale, and a bias that a small network computes of offsets."""
    size, side = 3, 9
    own = {"image_size": 2 * side, "window_size": size, "patch_size": 2, "embed_dim": 32}
    model = made("Swinv2Model", depths=[2], num_heads=[4], pretrained_window_sizes=[0], **own)
    stage = model.encoder.layers[0]
    x = torch.randn(2, side * side, 32, requires_grad=True)
    for layer, each in zip(stage.blocks, attentions(stage, x, (side, side)), strict=True):
        module = layer.attention.self
        table = 16 * module.continuous_position_bias_mlp(module.relative_coords_table).view(-1, 4).sigmoid()
        mask = BIASED.bind(h=side, w=side, size=size, shift=layer.shift_size, heads=4)
        q, *others = of_windows(each, side, side, size, layer.shift_size)
        leaves = *each.leaves, module.logit_scale, *module.continuous_position_bias_mlp.parameters()
        q = q * module.logit_scale.clamp(max=4.605170185988092).exp()
        yield Compared(mask, q, *others, leaves, {"table": by_offset(table, size)}, scale=1.0)


def hiera() -> Iterator[Compared]:
    """Tokens of a mask unit are interleaved; its queries are the largest of several, or all of them."""
    from transformers.models.hiera.modeling_hiera import HieraMaskUnitAttention

    for stride, window, local in ((1, 4, True), (4, 2, True), (1, 0, False)):
        module = stirred(HieraMaskUnitAttention(32, 32, 4, stride, window, local))
        (each,) = attentions(module, torch.randn(2, 32, 32, requires_grad=True))
        count = each.q.shape[2]
        vectors = [x.transpose(2, 3).flatten(2, 3) for x in (each.q, each.k, each.v, each.out)]
        name = "units" if stride == 1 else "pooled_units"
        values = {"stride": stride} if stride > 1 else {}
        mask = PATTERNS[name].bind(n=32, count=count, **values)
        yield Compared(mask, *vectors, each.leaves, scale=1.0)


def sam(kind: str) -> Family:
    """Windows of an image: products of queries with tables for rows and for columns, which no scale changes."""

    def family() -> Iterator[Compared]:
        size, (h, w) = 4, (8, 12)
        module = stirred(LAYERS[kind](size))
        x = torch.randn(12, size, size, 32, requires_grad=True)
        (each,) = attentions(module, x)
        q, k, v, out = (whole(x.unflatten(0, (-1, 4)), h, w, size) for x in (each.q, each.k, each.v, each.out))
        inputs = {"rows": module.rel_pos_h, "columns": module.rel_pos_w}
        leaves = x, module.qkv.weight, *inputs.values()
        mask = PATTERNS["decomposed"].bind(h=h, w=w, size=size, heads=4)
        yield Compared(mask, q * q.shape[-1] ** 0.5, k, v, out, leaves, inputs)

    return family


def _sam(size: int) -> Any:
    from transformers.models.sam.configuration_sam import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionAttention

    return SamVisionAttention(SamVisionConfig(hidden_size=32, num_attention_heads=4, use_rel_pos=True), size)


def _vit_det(size: int) -> Any:
    from transformers.models.vitdet.configuration_vitdet import VitDetConfig
    from transformers.models.vitdet.modeling_vitdet import VitDetAttention

    own = {"hidden_size": 32, "num_attention_heads": 4, "use_relative_position_embeddings": True}
    return VitDetAttention(VitDetConfig(**own), (size, size))


LAYERS = {"sam": _sam, "vitdet": _vit_det}


def vision_tower(name: str, **own: Any) -> Family:
    """Every token of an image attends every other one."""

    def family() -> Iterator[Compared]:
        model = made(name, image_size=12, patch_size=4, num_channels=3, **own)
        found = attentions(model, torch.randn(2, 3, 12, 12))
        assert found
        for each in found:
            n = each.q.shape[2]
            if n == each.k.shape[2]:
                yield of(each, PATTERNS["all_"].bind(n=n))
            else:  # a head that pools
                yield of(each, PATTERNS["across"].bind(m=n, n=each.k.shape[2]))

    return family


def video_mae() -> Iterator[Compared]:
    model = made("VideoMAEModel", image_size=8, patch_size=4, num_frames=4, tubelet_size=2)
    for each in attentions(model, torch.randn(2, 4, 3, 8, 8)):
        yield of(each, PATTERNS["all_"].bind(n=8))


def timesformer() -> Iterator[Compared]:
    """Each place through time, then each frame with the token of the class."""
    own = {"image_size": 8, "patch_size": 4, "num_frames": 3}
    model = made("TimesformerModel", num_hidden_layers=1, **own)
    time, space = attentions(model, torch.randn(2, 3, 3, 8, 8))
    for each, count, mask in (
        (time, 4, PATTERNS["same_place"].bind(p=4, t=3)),
        (space, 3, PATTERNS["same_frame"].bind(t=3, p=5)),
    ):
        parts = (x.unflatten(0, (2, count)).transpose(1, 2).flatten(2, 3) for x in (each.q, each.k, each.v, each.out))
        yield Compared(mask, *parts, each.leaves)


def qwen_windows() -> Iterator[Compared]:
    """Parts of any lengths, computed one after the other by the module."""
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLVisionAttention

    config = Qwen2_5_VLVisionConfig(hidden_size=32, num_heads=4)
    config._attn_implementation = "eager"
    module = stirred(Qwen2_5_VLVisionAttention(config))
    x = torch.randn(21, 32, requires_grad=True)
    ends = torch.tensor([0, 4, 12, 13, 21], dtype=torch.int32)
    angles = torch.rand(21, 8)
    out = []
    hook = module.proj.register_forward_pre_hook(lambda _, given: out.append(given[0]))
    module(x, ends, position_embeddings=(angles.cos(), angles.sin()))
    hook.remove()
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

    q, k, v = module.qkv(x).reshape(21, 3, 4, -1).permute(1, 0, 2, 3).unbind(0)
    q, k = apply_rotary_pos_emb_vision(q, k, angles.cos(), angles.sin())
    vectors = [each.transpose(0, 1)[None] for each in (q, k, v, out[0].view(21, 4, -1))]
    part = torch.repeat_interleave(torch.arange(4), torch.diff(ends)).int()
    yield Compared(PATTERNS["same_part"].bind(n=21), *vectors, (x, module.qkv.weight), {"part": part})


FAMILIES: dict[str, Family] = {
    "swin": swin("SwinModel"),
    "donut_swin": swin("DonutSwinModel"),
    "maskformer_swin": swin("MaskFormerSwinModel"),
    "swin_v2": swin_v2,
    "sam": sam("sam"),
    "vitdet": sam("vitdet"),
    "hiera": hiera,
    "vit": vision_tower("ViTModel"),
    "siglip": vision_tower("SiglipVisionModel"),
    "clip_vision": vision_tower("CLIPVisionModel"),
    "dinov2": vision_tower("Dinov2Model"),
    "llama4_vision": vision_tower("Llama4VisionModel", pixel_shuffle_ratio=1.0, intermediate_size=32),
    "videomae": video_mae,
    "timesformer": timesformer,
    "qwen2_5_vl_vision": qwen_windows,
}

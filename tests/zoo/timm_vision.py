"""Modules of timm. They compute attention in steps here: fused attention is switched off."""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

import maskdsl
from tests.support.side_libraries import side_library
from tests.zoo.capture import Softmaxed, attentions
from tests.zoo.families import Compared, Family, example, stirred
from tests.zoo.grids import by_offset, from_grid, whole
from tests.zoo.positional import before

PATTERNS = maskdsl.parse("""
def in_window(size) = q.y // size == k.y // size and q.x // size == k.x // size
pattern all_(n) { space tokens[n] attend all -> all }
pattern across(m, n) { space asking[m] space asked[n] queries asking keys asked attend all -> all }
pattern blocks(n, size) { space tokens[n] attend q // size == k // size }
pattern windows(h, w, size) { space image[y = h, x = w] attend in_window(size) }
pattern rolled_then_padded(h, w, size, shift) {
    space image[y = h, x = w]
    input table: float[heads, 2 * size - 1, 2 * size - 1]
    attend in_window(size)
    require (q.y >= h - shift) == (k.y >= h - shift) and (q.x >= w - shift) == (k.x >= w - shift)
    score s + table[head, q.y - k.y + size - 1, q.x - k.x + size - 1]
}
pattern grid(h, w, size) {
    space image[y = h, x = w]
    input table: float[heads, 2 * size - 1, 2 * size - 1]
    attend q.y % (h // size) == k.y % (h // size) and q.x % (w // size) == k.x % (w // size)
    score s + table[head, q.y // (h // size) - k.y // (h // size) + size - 1,
        q.x // (w // size) - k.x // (w // size) + size - 1]
}
pattern by_distance(h, w) {
    space image[y = h, x = w]
    input table: float[heads, h * w]
    attend all -> all
    score s + table[head, abs(q.y - k.y) * w + abs(q.x - k.x)]
}
pattern strided(h, w, stride) {
    space asking[y = (h + stride - 1) // stride, x = (w + stride - 1) // stride]
    space asked[y = h, x = w]
    input table: float[heads, h * w]
    queries asking
    keys asked
    attend all -> all
    score s + table[head, abs(q.y * stride - k.y) * w + abs(q.x * stride - k.x)]
}
pattern beit(h, w) {
    space cls[1]
    space image[y = h, x = w]
    tokens cls ++ image
    input table: float[(2 * h - 1) * (2 * w - 1) + 3, heads]
    attend all -> all
    score s + (table[(2 * h - 1) * (2 * w - 1) + 2, head] if q == 0 and k == 0
        else table[(2 * h - 1) * (2 * w - 1), head] if q == 0
        else table[(2 * h - 1) * (2 * w - 1) + 1, head] if k == 0
        else table[((q - 1) // w - (k - 1) // w + h - 1) * (2 * w - 1)
            + (q - 1) % w - (k - 1) % w + w - 1, head])
}
pattern pooled(h, w) {
    space asking[1 + h * w]
    space asked[1 + h // 2 * (w // 2)]
    input down: float[2 * h - 1, dim]
    input right: float[2 * w - 1, dim]
    queries asking
    keys asked
    attend all -> all
    score s + (
        dot(q, down[(q - 1) // w - (k - 1) // (w // 2) * 2 + h - 2])
        + dot(q, right[(q - 1) % w - (k - 1) % (w // 2) * 2 + w - 2])
        if q > 0 and k > 0 else 0.0)
}
pattern halo(h, w, size, reach) {
    space image[y = h, x = w]
    space padded[y = h + 2 * reach, x = w + 2 * reach]
    input down: float[2 * (size + 2 * reach) - 1, dim]
    input right: float[2 * (size + 2 * reach) - 1, dim]
    queries image
    keys padded
    attend 0 <= k.y - q.y // size * size < size + 2 * reach and 0 <= k.x - q.x // size * size < size + 2 * reach
    score s + dot(q, down[k.y - q.y + size + 2 * reach - 1]) + dot(q, right[k.x - q.x + size + 2 * reach - 1])
}
""")
SWIN = example("vision", "swin_bias", "swin_bias")


def part(module: str, kind: str, *arguments: Any, **named: Any) -> Any:
    """A module of timm with random weights."""
    timm = side_library("timm")
    timm.layers.set_fused_attn(False)
    return stirred(getattr(import_module(f"timm.{module}"), kind)(*arguments, **named))


def vectors(each: Softmaxed) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return each.q, each.k, each.v, each.out


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def swin() -> Iterator[Compared]:
    """Windows, shifted windows, and those of an image that is rolled first, and then padded."""
    for (h, w), shift in (((8, 12), 0), ((8, 12), 2), ((7, 10), 2)):
        block = part("models.swin_transformer", "SwinTransformerBlock", 32, (h, w), 4, 8, 4, shift)
        (each,) = attentions(block, random(2, h, w, 32))
        table, padded = block.attn.relative_position_bias_table, (h, w) != (8, 12)
        sides = {"h": -(-h // 4) * 4, "w": -(-w // 4) * 4, "size": 4, "shift": shift, "heads": 4}
        mask = (PATTERNS["rolled_then_padded"] if padded else SWIN).bind(**sides)
        arranged = (whole(x, sides["h"], sides["w"], 4, 0 if padded else shift) for x in vectors(each))
        yield Compared(mask, *arranged, (*each.leaves, table), {"table": by_offset(table, 4)}, scale=1.0)


def swin_v2_cr() -> Iterator[Compared]:
    """Cosines, and a bias of a network of logarithmic offsets."""
    module = part("models.swin_transformer_v2_cr", "WindowMultiHeadAttention", 32, 4, (3, 3))
    (each,) = attentions(module, random(8, 9, 32))
    steps = torch.arange(-2.0, 3.0)
    every = torch.cartesian_prod(steps, steps)
    table = module.meta_mlp(every.sign() * (1 + every.abs()).log())
    q, k, v, out = (whole(x, 6, 6, 3) for x in vectors(each))
    leaves = *each.leaves, module.logit_scale, module.meta_mlp.fc1.weight, module.meta_mlp.fc2.weight
    q = q * module.logit_scale.clamp(max=4.605170185988092).exp()[:, None, None]
    mask = SWIN.bind(h=6, w=6, size=3, shift=0, heads=4)
    yield Compared(mask, q, k, v, out, leaves, {"table": by_offset(table, 3)}, scale=1.0)


def twins() -> Iterator[Compared]:
    """Windows whose padding is attended; and all tokens to keys of a convolution."""
    local = part("models.twins", "LocallyGroupedAttn", 32, 4, ws=3)
    (each,) = attentions(local, random(2, 56, 32), (7, 8))
    arranged = (whole(x.flatten(0, 1), 9, 9, 3) for x in vectors(each))
    yield Compared(PATTERNS["windows"].bind(h=9, w=9, size=3), *arranged, each.leaves, scale=1.0)
    reduced = part("models.twins", "GlobalSubSampleAttn", 32, 4, sr_ratio=2)
    (each,) = attentions(reduced, random(2, 48, 32), (6, 8))
    yield Compared(PATTERNS["across"].bind(m=48, n=12), *vectors(each), each.leaves, scale=1.0)


def nest() -> Iterator[Compared]:
    module = part("models.nest", "Attention", 32, 4)
    (each,) = attentions(module, random(2, 4, 9, 32))
    yield Compared(
        PATTERNS["blocks"].bind(n=36, size=9), *(x.flatten(2, 3) for x in vectors(each)), each.leaves, scale=1.0
    )


def maxvit() -> Iterator[Compared]:
    from_parts = {"block": whole, "grid": from_grid}
    for kind, arrange in from_parts.items():
        side_library("timm")
        config = import_module("timm.models.maxxvit").MaxxVitTransformerCfg
        config = config(dim_head=8, window_size=(3, 3), grid_size=(3, 3))
        module = part("models.maxxvit", "PartitionAttentionCl", 32, kind, config)
        (each,) = attentions(module, random(2, 6, 9, 32))
        table = module.attn.rel_pos.relative_position_bias_table
        mask = PATTERNS["grid"].bind(h=6, w=9, size=3, heads=4)
        if kind == "block":
            mask = SWIN.bind(h=6, w=9, size=3, shift=0, heads=4)
        arranged = (arrange(x, 6, 9, 3) for x in vectors(each))
        yield Compared(mask, *arranged, (*each.leaves, table), {"table": by_offset(table, 3)}, scale=1.0)


def gc_vit() -> Iterator[Compared]:
    """Windows, and windows whose queries are those of the whole image."""
    for is_global in (False, True):
        module = part("models.gcvit", "WindowAttentionGlobal", 32, 4, (3, 3), is_global)
        given = [random(8, 9, 32), *([random(2, 9, 32)] if is_global else [])]
        (each,) = attentions(module, *given)
        table = module.rel_pos.relative_position_bias_table
        mask = SWIN.bind(h=6, w=6, size=3, shift=0, heads=4)
        arranged = (whole(x, 6, 6, 3) for x in vectors(each))
        yield Compared(mask, *arranged, (*each.leaves, table), {"table": by_offset(table, 3)}, scale=1.0)


def one_query(module: str, kind: str) -> Family:
    """A token of the class asks all."""

    def family() -> Iterator[Compared]:
        (each,) = attentions(part(module, kind, 32, 4), random(2, 11, 32))
        prescaled = kind == "ClassAttn"
        mask = PATTERNS["across"].bind(m=1, n=11)
        yield Compared(mask, *vectors(each), each.leaves, scale=1.0 if prescaled else None)

    return family


def eva() -> Iterator[Compared]:
    rope = torch.randn(11, 16)
    (each,) = attentions(part("models.eva", "EvaAttention", 32, 4, scale_norm=False), random(2, 12, 32), rope=rope)
    yield Compared(PATTERNS["all_"].bind(n=12), *vectors(each), each.leaves, scale=1.0)


def convit() -> Iterator[Compared]:
    """Two softmaxes, mixed by a gate a head."""
    module = part("models.convit", "GPSA", 32, 4)
    (each,) = attentions(module, random(2, 25, 32))
    inputs = {"gate": module.gating_param, "place": module.pos_proj.weight}
    yield Compared(
        example("vision", "convit", "gpsa").bind(h=5, w=5, heads=4),
        *vectors(each),
        (*each.leaves, *inputs.values()),
        inputs,
    )


def levit() -> Iterator[Compared]:
    """Values twice as long as keys, biases of absolute offsets; and every second place as a query."""
    module = part("models.levit", "Attention", 32, 8, 4, 2.0, resolution=(4, 5))
    (each,) = attentions(module, random(2, 20, 32))
    bias = module.attention_biases
    mask = PATTERNS["by_distance"].bind(h=4, w=5, heads=4)
    yield Compared(mask, *vectors(each), (*each.leaves, bias), {"table": bias})
    module = part("models.levit", "AttentionDownsample", 32, 48, 8, 4, 2.0, 2, (5, 6))
    (each,) = attentions(module, random(2, 30, 32))
    bias = module.attention_biases
    mask = PATTERNS["strided"].bind(h=5, w=6, stride=2, heads=4)
    yield Compared(mask, *vectors(each), (*each.leaves, bias), {"table": bias})


def tiny_vit() -> Iterator[Compared]:
    module = part("models.tiny_vit", "Attention", 32, 8, 4, 1, (4, 5))
    (each,) = attentions(module, random(2, 20, 32))
    bias = module.attention_biases
    mask = PATTERNS["by_distance"].bind(h=4, w=5, heads=4)
    yield Compared(mask, *vectors(each), (*each.leaves, bias), {"table": bias}, scale=1.0)


def beit() -> Iterator[Compared]:
    """Biases of offsets, and three for the token of the class."""
    module = part("models.beit", "Attention", 32, 4, True, window_size=(3, 4))
    (each,) = attentions(module, random(2, 13, 32))
    table = module.relative_position_bias_table
    mask = PATTERNS["beit"].bind(h=3, w=4, heads=4)
    yield Compared(mask, *vectors(each), (*each.leaves, table), {"table": table}, scale=1.0)


def halonet() -> Iterator[Compared]:
    """Blocks and their surroundings, zeros outside of the image included, with vectors for rows and for columns."""
    size, reach, (h, w) = 4, 1, (8, 12)
    module = part("layers.halo_attn", "HaloAttn", 32, num_heads=4, dim_head=8, block_size=size, halo_size=reach)
    x = random(2, 32, h, w)
    out = module(x).unflatten(1, (4, 8)).flatten(3).transpose(2, 3)
    q = module.q(x).unflatten(1, (4, 8)).flatten(3).transpose(2, 3)
    padded = torch.nn.functional.pad(module.kv(x), [reach] * 4).unflatten(1, (4, 16)).flatten(3).transpose(2, 3)
    k, v = padded.split(8, dim=-1)
    inputs = {"down": module.pos_embed.height_rel, "right": module.pos_embed.width_rel}
    mask = PATTERNS["halo"].bind(h=h, w=w, size=size, reach=reach, heads=4)
    leaves = x, module.q.weight, module.kv.weight, *inputs.values()
    yield Compared(mask, q, k, v, out, leaves, inputs)


def mvit_v2() -> Iterator[Compared]:
    """Pooled queries and keys, and vectors of distances between rows and columns, but for the token of the class."""
    own = {"kernel_q": (3, 3), "kernel_kv": (3, 3), "stride_kv": (2, 2), "num_heads": 4}
    module = part("models.mvitv2", "MultiScaleAttention", 32, 32, (4, 4), **own)
    x = random(2, 17, 32)
    (each,) = attentions(module, x, [4, 4])
    inputs = {"down": module.rel_pos_h, "right": module.rel_pos_w}
    mask = PATTERNS["pooled"].bind(h=4, w=4, heads=4)
    q = each.q * each.q.shape[-1] ** 0.5  # what is multiplied with the vectors is not scaled
    leaves = x, module.qkv.weight, module.pool_k.weight, *inputs.values()
    yield Compared(mask, q, each.k, each.v, each.out, leaves, inputs)


def volo() -> Iterator[Compared]:
    """Windows whose scores a linear layer gives, added where they overlap; zeros outside of the image take part."""
    h, w = 5, 6
    for stride in (1, 2):
        module = part("models.volo", "OutlookAttention", 32, 4, 3, 1, stride)
        x = random(2, h, w, 32)
        with before(module.proj) as outs:
            module(x)
        pooled = module.pool(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).flatten(1, 2)
        logits = module.attn(pooled).unflatten(2, (4, 9, 9)).transpose(1, 2) * module.scale
        v, out = (y.flatten(1, 2).unflatten(2, (4, 8)).transpose(1, 2) for y in (module.v(x), outs[0]))
        mask = example("vision", "volo", "outlook").bind(h=h, w=w, size=3, stride=stride, heads=4)
        leaves = x, module.v.weight, module.attn.weight
        yield Compared(mask, torch.zeros_like(v), torch.zeros_like(v), v, out, leaves, {"logits": logits})


FAMILIES: dict[str, Family] = {
    "timm_swin": swin,
    "timm_swin_v2_cr": swin_v2_cr,
    "timm_twins": twins,
    "timm_nest": nest,
    "timm_maxvit": maxvit,
    "timm_gc_vit": gc_vit,
    "timm_cait_class": one_query("models.cait", "ClassAttn"),
    "timm_crossvit": one_query("models.crossvit", "CrossAttention"),
    "timm_eva": eva,
    "timm_convit": convit,
    "timm_volo": volo,
    "timm_levit": levit,
    "timm_tiny_vit": tiny_vit,
    "timm_beit": beit,
    "timm_halonet": halonet,
    "timm_mvit_v2": mvit_v2,
}

"""Modules of transformers for speech, documents and long texts, whose scores read more than places."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
import transformers
from torch import Tensor

import maskdsl
from tests.integrations.tiny import tiny
from tests.support.dot_patterns import CASES
from tests.zoo.capture import attentions
from tests.zoo.families import Compared, Family, stirred
from tests.zoo.text import BUCKETS, SLOPES, TOKENS, heads, made, of, of_example, tokens

PATTERNS = maskdsl.parse("""
pattern all_(n) { space tokens[n] attend all -> all }
pattern causal_(n) { space tokens[n] attend causal }
pattern across(m, n) { space asking[m] space asked[n] queries asking keys asked attend all -> all }
pattern same_part(n) { space tokens[n] input part: int[tokens] attend same(part) }
pattern clamped(n, before, after) {
    space tokens[n]
    input r: float[before + after + 1, dim]
    attend all -> all
    score s + dot(q, r[clamp(k - q, -before, after) + before]) / sqrt(dim)
}
pattern gated(n, buckets, distance) {
    space tokens[n]
    input table: float[buckets, heads]
    input gate: float[batch, heads, tokens]
    attend all -> all
    score s + q.gate * table[t5_bucket(k - q, buckets, distance), head]
}
pattern boxes(n, buckets, distance, box_buckets, box_distance) {
    space tokens[n]
    input x: int[batch, tokens]
    input y: int[batch, tokens]
    input table: float[buckets, heads]
    input columns: float[box_buckets, heads]
    input rows: float[box_buckets, heads]
    attend all -> all
    score s + (table[t5_bucket(k - q, buckets, distance), head]
        + columns[t5_bucket(k.x - q.x, box_buckets, box_distance), head]
        + rows[t5_bucket(k.y - q.y, box_buckets, box_distance), head]) / sqrt(dim)
}
pattern segments(n, buckets, distance, count) {
    space tokens[n]
    input segment: int[batch, tokens]
    input table: float[buckets + count * count, heads]
    attend all -> all
    score s + table[t5_bucket(k - q, buckets, distance) if same(segment)
        else buckets + q.segment * count + k.segment, head]
}
pattern own_block(globals, n, size) {
    space first[globals]
    space text[n]
    tokens first ++ text
    attend first -> all
    attend all -> first
    attend text -> text where q.text // size == k.text // size
}
pattern image_first(image, n) {
    space picture[image]
    space text[n]
    tokens picture ++ text
    attend picture -> picture
    attend text -> picture
    attend text -> text where q.text >= k.text
}
pattern by_block(n, size) {
    space tokens[n]
    input drawn: bool[heads, n // size, n // size]
    let last = n // size - 1
    attend abs(q // size - k // size) <= 1
    attend q // size == 0 or q // size == last or k // size == 0 or k // size == last
    attend drawn[head, q // size, k // size]
}
pattern indexed(n, top) {
    space tokens[n]
    input index: float[batch, tokens, tokens]
    route best = topk(top, index[batch, q, k]) where causal
    attend causal and best
}
pattern worth(n) {
    space tokens[n]
    input worth: float[batch, heads, tokens]
    attend causal
    score s + k.worth
}
""")


def part(name: str, kind: str, *arguments: Any, **named: Any) -> Any:
    """An attention of transformers with random weights."""
    return stirred(getattr(import_module(f"transformers.models.{name}.modeling_{name}"), kind)(*arguments, **named))


def configured(name: str, **own: Any) -> Any:
    config = tiny(getattr(transformers, name), **own)
    config._attn_implementation = "eager"
    return config


@contextmanager
def before(layer: torch.nn.Module) -> Iterator[list[Tensor]]:
    """What is given to a layer, such as the projection of an attention's output."""
    given: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    yield given
    hook.remove()


def hidden(batch: int = 2, count: int = TOKENS) -> Tensor:
    return torch.randn(batch, count, 32, requires_grad=True)


def conformer() -> Iterator[Compared]:
    config = configured("Wav2Vec2ConformerConfig", position_embeddings_type="relative")
    module = part("wav2vec2_conformer", "Wav2Vec2ConformerSelfAttention", config)
    x, places = hidden(), torch.randn(1, 2 * TOKENS - 1, 32)
    with before(module.linear_out) as outs:
        module(x, relative_position_embeddings=places)
    r = module.linear_pos(places)[0].flip(0).unflatten(1, (4, 8)).transpose(0, 1)
    inputs = {"u": module.pos_bias_u, "w": module.pos_bias_v, "r": r}
    vectors = [heads(each(x)) for each in (module.linear_q, module.linear_k, module.linear_v)]
    leaves = x, module.linear_q.weight, module.linear_pos.weight, module.pos_bias_u, module.pos_bias_v
    mask = of_example("conformer", "conformer")
    yield Compared(mask, *vectors, heads(outs[0]), leaves, inputs)


def seamless() -> Iterator[Compared]:
    """Vectors of distances, of which those beyond a bound are one."""
    own = {"left_max_position_embeddings": 5, "right_max_position_embeddings": 3}
    config = configured("SeamlessM4Tv2Config", position_embeddings_type="relative_key", **own)
    config.speech_encoder_attention_heads = 4
    module = part("seamless_m4t_v2", "SeamlessM4Tv2ConformerSelfAttention", config)
    x = hidden()
    with before(module.linear_out) as outs:
        module(x)
    vectors = [heads(each(x)) for each in (module.linear_q, module.linear_k, module.linear_v)]
    table = module.distance_embedding.weight
    mask = PATTERNS["clamped"].bind(n=TOKENS, before=5, after=3, heads=4)
    yield Compared(mask, *vectors, heads(outs[0]), (x, module.linear_q.weight, table), {"r": table})


def vits() -> Iterator[Compared]:
    """Keys and values that depend on the distance, in a window."""
    config = configured("VitsConfig", window_size=3, attention_dropout=0.0, num_attention_heads=4)
    module = part("vits", "VitsAttention", config)
    x = hidden()
    with before(module.out_proj) as outs:
        module(x)
    vectors = [heads(each(x)) for each in (module.q_proj, module.k_proj, module.v_proj)]
    inputs = {"emb_rel_k": module.emb_rel_k[0], "emb_rel_v": module.emb_rel_v[0]}
    text = CASES["vits"].text.replace("0.4", repr(8**-0.5))
    mask = maskdsl.parse(text)["vits"].bind(n=TOKENS, reach=3, heads=4)
    leaves = x, module.q_proj.weight, module.emb_rel_k, module.emb_rel_v
    yield Compared(mask, *vectors, heads(outs[0]), leaves, inputs)


def wavlm() -> Iterator[Compared]:
    """A bias by bucket, times a gate of the query."""
    module = part("wavlm", "WavLMAttention", 32, 4, num_buckets=16, max_distance=20)
    torch.nn.init.orthogonal_(module.out_proj.weight)
    x = hidden()
    gates = module.gru_rel_pos_linear(heads(x)).unflatten(3, (2, 4)).sum(-1).sigmoid()
    gate = gates[..., 0] * (gates[..., 1] * module.gru_rel_pos_const[..., 0] - 1.0) + 2.0
    vectors = [heads(each(x)) for each in (module.q_proj, module.k_proj, module.v_proj)]
    out = heads((module(x)[0] - module.out_proj.bias) @ module.out_proj.weight)  # the last layer undone
    table = module.rel_attn_embed.weight
    mask = PATTERNS["gated"].bind(n=TOKENS, buckets=16, distance=20, heads=4)
    leaves = x, module.q_proj.weight, module.gru_rel_pos_linear.weight, table
    yield Compared(mask, *vectors, out, leaves, {"table": table, "gate": gate})


def layoutlm() -> Iterator[Compared]:
    """Buckets of places, and of the columns and rows of boxes; the model gives their tables no gradient."""
    own = {"num_hidden_layers": 1, "visual_embed": False, "rel_pos_bins": 8, "max_rel_pos": 16, "max_rel_2d_pos": 32}
    own |= {"rel_2d_pos_bins": 16, "coordinate_size": 4, "shape_size": 8, "max_2d_position_embeddings": 40}
    model = made("LayoutLMv3Model", has_spatial_attention_bias=True, has_relative_attention_bias=True, **own)
    corners = torch.randint(0, 20, (2, TOKENS, 2))
    box = torch.cat([corners, corners + torch.randint(1, 20, (2, TOKENS, 2))], dim=2)
    (each,) = attentions(model, tokens(), bbox=box)
    encoder = model.encoder
    layers = {"table": encoder.rel_pos_bias, "columns": encoder.rel_pos_x_bias, "rows": encoder.rel_pos_y_bias}
    inputs = {name: layer.weight.T for name, layer in layers.items()} | {"x": box[..., 0], "y": box[..., 3]}
    values = {"buckets": 8, "distance": 16, "box_buckets": 16, "box_distance": 32}
    mask = PATTERNS["boxes"].bind(n=TOKENS, heads=4, **values)
    yield Compared(mask, each.q, each.k, each.v, each.out, each.leaves, inputs, scale=1.0)


def cpm_ant() -> Iterator[Compared]:
    """A prompt and a text, two segments."""
    own = {"num_hidden_layers": 1, "prompt_length": 6, "position_bias_num_buckets": 8, "segment_types": 3}
    model = made("CpmAntModel", position_bias_max_distance=16, prompt_types=4, **own)
    (each,) = attentions(model, tokens(), use_cache=False)
    segment = torch.tensor([0] * 6 + [2] * TOKENS).expand(2, -1)
    table = model.position_bias.relative_attention_bias
    mask = PATTERNS["segments"].bind(n=TOKENS + 6, buckets=8, distance=16, count=3, heads=4)
    inputs = {"segment": segment, "table": table}
    yield Compared(mask, each.q, each.k, each.v, each.out, (*each.leaves, table), inputs)


def longt5() -> Iterator[Compared]:
    """Blocks and their neighbours, cut to a radius."""
    config = configured("LongT5Config", local_radius=5, **BUCKETS)
    module = part("longt5", "LongT5LocalAttention", config, has_relative_attention_bias=True)
    modeling = import_module("transformers.models.longt5.modeling_longt5")
    x = hidden()
    with before(module.o) as outs:
        module(x, modeling._get_local_attention_mask(torch.ones(2, TOKENS), module.block_len, "cpu"))
    table = module.relative_attention_bias.weight.T
    vectors = [heads(each(x)) for each in (module.q, module.k, module.v)]
    leaves = x, module.q.weight, module.relative_attention_bias.weight
    mask = of_example("longt5", "local_biased", radius=5, buckets=8, distance=16)
    yield Compared(mask, *vectors, heads(outs[0]), leaves, {"table": table})


def pegasus_x() -> Iterator[Compared]:
    """Global tokens, and blocks of tokens that see them and themselves."""
    module = part("pegasus_x", "PegasusXGlobalLocalAttention", 32, 4, 6)
    x, first = hidden(), hidden(count=3)
    with before(module.out_proj) as outs:
        module(x, first, torch.zeros(2, TOKENS))
    every = torch.cat([first, x], dim=1)
    vectors = [heads(each(every)) for each in (module.q_proj, module.k_proj, module.v_proj)]
    out = torch.cat([heads(each) for each in outs], dim=2)
    mask = PATTERNS["own_block"].bind(globals=3, n=TOKENS, size=6)
    yield Compared(mask, *vectors, out, (x, first, module.q_proj.weight))


def falcon() -> Iterator[Compared]:
    """ALiBi, scaled as scores are. By fused attention: the eager one of this version adds it twice."""
    own = {"num_kv_heads": 4, "new_decoder_architecture": False, "multi_query": False}
    model = made("FalconModel", alibi=True, **own)
    model.config._attn_implementation = "sdpa"
    for each in attentions(model, tokens(), use_cache=False):
        yield of(each, of_example("alibi", "alibi"), slope=SLOPES * each.q.shape[-1] ** -0.5)


def git() -> Iterator[Compared]:
    """Tokens of an image see each other; those of the text see the image, and the text so far."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = {**vision, "image_size": 8, "patch_size": 4}
    model = made("GitModel", num_hidden_layers=1, vision_config=config, num_image_with_embedding=None)
    found = attentions(model, tokens(), pixel_values=torch.randn(2, 3, 8, 8), use_cache=False)
    yield of(found[-1], PATTERNS["image_first"].bind(image=5, n=TOKENS))


def perceiver() -> Iterator[Compared]:
    own = {"num_latents": 5, "d_latents": 32, "num_blocks": 1, "num_self_attends_per_block": 1}
    model = made("PerceiverModel", num_self_attention_heads=4, num_cross_attention_heads=4, **own)
    across, inside = attentions(model, torch.randn(2, 9, 32))
    yield of(across, PATTERNS["across"].bind(m=5, n=9))
    yield of(inside, PATTERNS["all_"].bind(n=5))


def pixtral() -> Iterator[Compared]:
    """Images of different sizes in one sequence."""
    model = made("PixtralVisionModel", num_hidden_layers=1, image_size=16, patch_size=4, num_channels=3)
    sizes = torch.tensor([[8, 16], [12, 8]])
    (each,) = attentions(model, torch.randn(2, 3, 12, 16), image_sizes=sizes)
    count = (sizes // 4).prod(1)
    part_of = torch.repeat_interleave(torch.arange(2), count).int()
    mask = PATTERNS["same_part"].bind(n=int(count.sum()))
    yield Compared(mask, each.q, each.k, each.v, each.out, each.leaves, {"part": part_of})


def big_bird() -> Iterator[Compared]:
    """Blocks: neighbours, the first and the last, and random ones, which are the module's."""
    size, count = 4, 12
    own = {"num_random_blocks": 2, "attention_probs_dropout_prob": 0.0, "sep_token_id": 2}
    config = configured("BigBirdConfig", block_size=size, **own)
    module = part("big_bird", "BigBirdBlockSparseAttention", config).train()  # otherwise nothing is random
    drawn: list[Any] = []
    draw = module._bigbird_block_rand_mask_with_head

    def kept(**named: Any) -> Any:
        drawn.append(draw(**named))
        return drawn[0]

    module._bigbird_block_rand_mask_with_head = kept
    x, present = hidden(count=size * count), torch.ones(2, size * count)
    masks = import_module("transformers.models.big_bird.modeling_big_bird").BigBirdModel
    blocked, band, rows, columns = masks.create_masks_for_block_sparse_attn(present, size)
    out = module(x, band, rows, columns, blocked, blocked)[0]
    chosen = torch.zeros(4, count, count, dtype=torch.bool)
    for head, blocks in enumerate(drawn[0]):
        for row, each in enumerate(blocks):
            chosen[head, row + 1, each.tolist()] = True
    vectors = [heads(each(x)) for each in (module.query, module.key, module.value)]
    mask = PATTERNS["by_block"].bind(n=size * count, size=size, heads=4)
    yield Compared(mask, *vectors, heads(out), (x, module.query.weight, module.key.weight), {"drawn": chosen})


def deepseek_v32() -> Iterator[Compared]:
    """An indexer scores pairs by heads of its own; here its scores are given. Each query attends the best tokens."""
    own = {"num_hidden_layers": 1, "index_topk": 5, "index_n_heads": 16, "index_head_dim": 16}
    model = made("DeepseekV32Model", **own)
    (each,) = attentions(model, tokens(), use_cache=False)
    (iq, ik), (weights, _), _ = each.products[-3:]
    index = (weights @ (iq @ ik).relu()).squeeze(2).detach()
    mask = PATTERNS["indexed"].bind(n=TOKENS, top=5, heads=each.q.shape[1])
    yield Compared(mask, each.q, each.k, each.v, each.out, each.leaves, {"index": index})


def doge() -> Iterator[Compared]:
    """The worth of each key, of its value, is added to scores; all of them are kept here."""
    model = made("DogeModel", num_hidden_layers=1, num_key_value_heads=4, num_attention_heads=4)
    (each,) = attentions(model, tokens(), use_cache=False)
    (module,) = (layer for layer in model.modules() if hasattr(layer, "dt_proj"))
    worth = module.dt_proj(each.v.transpose(1, 2).flatten(2))
    worth = torch.exp(module.A * torch.nn.functional.softplus(worth)).transpose(1, 2)
    leaves = *each.leaves, module.A, module.dt_proj.weight
    mask = PATTERNS["worth"].bind(n=TOKENS, heads=4)
    yield Compared(mask, each.q, each.k, each.v, each.out, leaves, {"worth": worth})


def encoder_decoder(name: str, **own: Any) -> Family:
    """Layers of an encoder, and of a decoder with cross-attention."""

    def family() -> Iterator[Compared]:
        model = made(name, num_hidden_layers=1, encoder_layers=1, decoder_layers=1, decoder_start_token_id=2, **own)
        given = {"input_ids": tokens(count=9)}
        if name == "WhisperModel":
            given = {"input_features": torch.randn(2, 8, 18)}
        encoder, decoder, cross = attentions(model, **given, decoder_input_ids=tokens(), use_cache=False)
        scale = 1.0 if name == "WhisperModel" else None
        yield of(encoder, PATTERNS["all_"].bind(n=9), scale)
        yield of(decoder, PATTERNS["causal_"].bind(n=TOKENS), scale)
        yield of(cross, PATTERNS["across"].bind(m=TOKENS, n=9), scale)

    return family


FAMILIES: dict[str, Family] = {
    "wav2vec2_conformer": conformer,
    "seamless_m4t_v2": seamless,
    "vits": vits,
    "wavlm": wavlm,
    "layoutlm_v3": layoutlm,
    "cpm_ant": cpm_ant,
    "longt5": longt5,
    "pegasus_x": pegasus_x,
    "falcon": falcon,
    "git": git,
    "perceiver": perceiver,
    "pixtral": pixtral,
    "big_bird": big_bird,
    "deepseek_v32": deepseek_v32,
    "doge": doge,
    "bart": encoder_decoder("BartModel"),
    "whisper": encoder_decoder("WhisperModel", num_mel_bins=8, max_source_positions=9),
}

"""More modules of transformers: chunks and summaries of texts, pooled windows, patches of bytes, several streams."""

from collections.abc import Iterator
from importlib import import_module

import torch

import maskdsl
from tests.zoo.capture import attentions
from tests.zoo.families import Compared, Family, example
from tests.zoo.grids import whole
from tests.zoo.positional import before, configured, hidden, part
from tests.zoo.text import BUCKETS, TOKENS, heads, made, of, of_example, tokens

PATTERNS = maskdsl.parse("""
pattern chunks(n, size, is_cyclic = True) {
    space tokens[n]
    let back = (q // size - k // size) % (n // size)
    attend back <= 1 if is_cyclic else causal and back <= 1
}
pattern chunks_back(n, size, back) { space tokens[n] attend 0 <= q // size - k // size <= back }
pattern funnel(n) {
    space tokens[n]
    input w: float[heads, dim]
    input u: float[heads, dim]
    input r: float[2 * n, heads, dim]
    attend all -> all
    score (dot(q + w[head], k) + dot(q + u[head], r[n + k - q, head])) / sqrt(dim)
}
pattern of_query(n, buckets, distance) {
    space tokens[n]
    input table: float[batch, tokens, buckets, heads]
    attend causal
    score s + table[batch, q, t5_bucket_causal(k - q, buckets, distance), head]
}
pattern pooled_windows(h, w, size, stride) {
    space pooled[y = h // stride, x = w // stride]
    space image[y = h, x = w]
    queries pooled
    keys image
    attend q.y // (size // stride) == k.y // size and q.x // (size // stride) == k.x // size
}
pattern own_patch(n, patches, slots) {
    space bytes[n]
    space asked[patches * slots]
    input patch: int[batch, bytes]
    queries bytes
    keys asked
    attend k // slots == q.patch
}
pattern patch_of_bytes(n, patches, slots) {
    space asking[patches * slots]
    space bytes[n]
    input patch: int[batch, bytes]
    queries asking
    keys bytes
    attend q // slots == k.patch
}
pattern across(m, n) { space asking[m] space asked[n] queries asking keys asked attend all -> all }
pattern around(n, reach) { space tokens[n] attend abs(q - k) <= reach }
""")


def longt5_global() -> Iterator[Compared]:
    """Blocks and their neighbours, and sums of blocks, each with buckets of their own."""
    block = 4
    config = configured("LongT5Config", local_radius=5, global_block_size=block, **BUCKETS)
    module = part("longt5", "LongT5TransientGlobalAttention", config, has_relative_attention_bias=True)
    modeling = import_module("transformers.models.longt5.modeling_longt5")
    x, present = hidden(), torch.ones(2, TOKENS)
    with before(module.o) as outs:
        module(x, mask=present)
    ids, _ = modeling._make_global_fixed_block_ids(present, block)
    sums = module.global_input_layer_norm(modeling._create_global_aggregates(x, ids, TOKENS // block))
    both = torch.cat([x, sums], dim=1)
    tables = {"table": module.relative_attention_bias, "global_table": module.global_relative_attention_bias}
    values = {"radius": 5, "block": block, "buckets": 8, "distance": 16}
    mask = of_example("longt5", "transient_global_biased", **values)
    leaves = x, module.q.weight, module.k.weight, *(each.weight for each in tables.values())
    vectors = heads(module.q(x)), heads(module.k(both)), heads(module.v(both))
    yield Compared(mask, *vectors, heads(outs[0]), leaves, {name: each.weight.T for name, each in tables.items()})


def led() -> Iterator[Compared]:
    layer = made("LEDModel", encoder_layers=1, decoder_layers=1, attention_window=[8]).encoder.layers[0]
    module, x, none = layer.self_attn.longformer_self_attn, hidden(), torch.zeros(2, TOKENS)
    out = module(x, none, none.bool(), none.bool(), False)[0]
    vectors = [heads(each(x)) for each in (module.query, module.key, module.value)]
    mask = of_example("longformer", "longformer", size=8, globals=0)
    yield Compared(mask, *vectors, heads(out), (x, module.query.weight, module.key.weight))


def reformer() -> Iterator[Compared]:
    """Chunks, each with the one before; of the first that is the last, unless it is causal."""
    for is_decoder in (False, True):
        config = configured("ReformerConfig", local_attn_chunk_length=6, is_decoder=is_decoder)
        module = part("reformer", "LocalSelfAttention", config)
        x = hidden()
        out = module(x).hidden_states
        vectors = [heads(each(x)) for each in (module.query, module.key, module.value)]
        mask = PATTERNS["chunks"].bind(n=TOKENS, size=6, is_cyclic=not is_decoder)
        yield Compared(mask, *vectors, heads(out), (x, module.query.weight, module.key.weight))


def funnel() -> Iterator[Compared]:
    """The first block, whose distances are not pooled yet."""
    module = part("funnel", "FunnelRelMultiheadAttention", configured("FunnelConfig", n_head=4, d_head=8), 0)
    x, places = hidden(), torch.randn(2 * TOKENS, 32)
    with before(module.post_proj) as outs:
        module(x, x, x, ([[places, None]], None, None, None))
    r = torch.einsum("td,dnh->tnh", places, module.r_kernel)
    inputs = {"w": module.r_w_bias, "u": module.r_r_bias, "r": r}
    vectors = [heads(each(x)) for each in (module.q_head, module.k_head, module.v_head)]
    leaves = x, module.q_head.weight, module.r_kernel, module.r_w_bias, module.r_r_bias
    yield Compared(PATTERNS["funnel"].bind(n=TOKENS, heads=4), *vectors, heads(outs[0]), leaves, inputs)


def sam2() -> Iterator[Compared]:
    """Windows, and the largest of their queries, by twos in each direction."""
    size, (h, w) = 4, (8, 12)
    config = configured("Sam2HieraDetConfig")
    modeling = import_module("transformers.models.sam2.modeling_sam2")
    module = part("sam2", "Sam2MultiScaleAttention", config, 32, 32, 4, (2, 2))
    x = torch.randn(12, size, size, 32, requires_grad=True)
    with before(module.proj) as outs:
        module(x)
    q, k, v = module.qkv(x).chunk(3, dim=-1)
    q = modeling.do_pool(q, (2, 2))
    vectors = [heads(each.flatten(1, 2)) for each in (q, k, v, outs[0])]
    arranged = [whole(each, h // 2, w // 2, size // 2) for each in (vectors[0], vectors[3])]
    keys = [whole(each, h, w, size) for each in vectors[1:3]]
    mask = PATTERNS["pooled_windows"].bind(h=h, w=w, size=size, stride=2)
    yield Compared(mask, arranged[0], *keys, arranged[1], (x, module.qkv.weight))


def blt() -> Iterator[Compared]:
    """Bytes ask the slots of their own patch, and slots the bytes of theirs."""
    modeling = import_module("transformers.models.blt.modeling_blt")
    config = configured("BltConfig").decoder_config
    config._attn_implementation = "eager"
    patches, slots, patch = 5, 2, torch.arange(TOKENS).expand(2, -1) // 5
    for by_bytes in (True, False):
        module = part("blt", "BltCrossAttention", config, 0, config.hidden_size)
        size = config.hidden_size
        lengths = (TOKENS, patches * slots) if by_bytes else (patches * slots, TOKENS)
        given = [torch.randn(2, each, size, requires_grad=True) for each in lengths]
        made_mask = modeling._prepare_patch_cross_attention_mask(patch, patches, TOKENS, not by_bytes, slots)
        made_mask = made_mask[0] if isinstance(made_mask, tuple) else made_mask
        (each,) = attentions(module, given[0], given[1], made_mask)
        name = "own_patch" if by_bytes else "patch_of_bytes"
        mask = PATTERNS[name].bind(n=TOKENS, patches=patches, slots=slots)
        yield of(each, mask, module.scaling, patch=patch.int())


def moonshine() -> Iterator[Compared]:
    model = made("MoonshineModel", encoder_num_hidden_layers=1, decoder_num_hidden_layers=1)
    sound = torch.randn(2, 2000)
    encoder, decoder, cross = attentions(model, sound, decoder_input_ids=tokens(), use_cache=False)
    heard = encoder.q.shape[2]
    scale = model.encoder.layers[0].self_attn.scaling
    yield of(encoder, example("language", "dense", "dense").bind(n=heard), scale)
    yield of(decoder, example("language", "causal", "causal_dense").bind(n=TOKENS), scale)
    yield of(cross, PATTERNS["across"].bind(m=TOKENS, n=heard), scale)


def t5gemma() -> Iterator[Compared]:
    """Windows both ways in the encoder, causal ones in the decoder, and every second layer without."""
    sides = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"], "num_hidden_layers": 2}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    side = {**sides, **sizes, "head_dim": 8, "vocab_size": 64, "attn_logit_softcapping": None, "pad_token_id": 0}
    model = made("T5GemmaModel", encoder=side, decoder=side, vocab_size=64)
    found = attentions(model, input_ids=tokens(), decoder_input_ids=tokens(), use_cache=False)
    scale = model.encoder.layers[0].self_attn.scaling
    both, last = example("language", "dense", "dense"), example("language", "sliding_window", "sliding_window")
    patterns = [PATTERNS["around"].bind(n=TOKENS, reach=6), both.bind(n=TOKENS)]
    for first in (last.bind(n=TOKENS, size=6), example("language", "causal", "causal_dense").bind(n=TOKENS)):
        patterns += [first, both.bind(n=TOKENS)]
    for each, mask in zip(found, patterns, strict=True):
        yield of(each, mask, scale)


def seamless_chunks() -> Iterator[Compared]:
    """The own chunk, and two before. By fused attention: the eager one of this version adds the booleans to scores."""
    own = {"speech_encoder_chunk_size": 5, "speech_encoder_left_chunk_num": 2, "position_embeddings_type": ""}
    own |= {"speech_encoder_layers": 1, "speech_encoder_attention_heads": 4, "speech_encoder_intermediate_size": 48}
    config = configured("SeamlessM4Tv2Config", **own)
    config._attn_implementation = "sdpa"
    encoder = part("seamless_m4t_v2", "SeamlessM4Tv2ConformerEncoder", config)
    (each,) = attentions(encoder, hidden())
    yield of(each, PATTERNS["chunks_back"].bind(n=TOKENS, size=5, back=2))


def prophetnet() -> Iterator[Compared]:
    """The main stream: causal, with a bias by bucket that a linear layer gives for each query."""
    modeling = import_module("transformers.models.prophetnet.modeling_prophetnet")
    own = {"ngram": 1, "num_buckets": 8, "relative_max_distance": 16, "num_decoder_attention_heads": 4}
    config = configured("ProphetNetConfig", num_encoder_attention_heads=4, **own)
    module = part("prophetnet", "ProphetNetNgramSelfAttention", config)
    x, places = hidden(count=2 * TOKENS), torch.arange(TOKENS)
    away = (places[None] - places[:, None]).expand(2, -1, -1)
    ahead = torch.full((TOKENS, TOKENS), -torch.inf).triu(1)
    buckets = [modeling.compute_relative_buckets(8, 16, each, False) for each in (away, torch.cat([away, away], 2))]
    with before(module.out_proj) as outs:
        module(x, None, ahead, None, *buckets, places[None])
    main = x[:, :TOKENS]
    table = module.relative_pos_embeddings(main).unflatten(2, (8, 4))
    vectors = [heads(each(main)) for each in (module.query_proj, module.key_proj, module.value_proj)]
    mask = PATTERNS["of_query"].bind(n=TOKENS, buckets=8, distance=16, heads=4)
    leaves = x, module.query_proj.weight, module.relative_pos_embeddings.weight
    yield Compared(mask, *vectors, heads(outs[0][:, 0]), leaves, {"table": table})


FAMILIES: dict[str, Family] = {
    "longt5_global": longt5_global,
    "led": led,
    "reformer_local": reformer,
    "funnel": funnel,
    "sam2_hiera": sam2,
    "blt": blt,
    "moonshine": moonshine,
    "t5gemma": t5gemma,
    "prophetnet": prophetnet,
    "seamless_m4t_v2_chunks": seamless_chunks,
}

"""Modules of transformers for texts and speech that compute scores themselves."""

from collections.abc import Iterator
from typing import Any

import torch
import transformers
from torch import Tensor

import maskdsl
from tests.integrations.tiny import tiny
from tests.zoo.capture import Softmaxed, attentions
from tests.zoo.families import Compared, Family, example, stirred

PATTERNS = maskdsl.parse("""
pattern all_(n) { space tokens[n] attend all -> all }
pattern causal_(n) { space tokens[n] attend causal }
pattern last(n, size) { space tokens[n] attend causal and backward(size) }
pattern across(m, n) { space asking[m] space asked[n] queries asking keys asked attend all -> all }
pattern scaled_t5(n, buckets, distance) {
    space tokens[n]
    input table: float[heads, buckets]
    attend all -> all
    score s + table[head, t5_bucket(k - q, buckets, distance)]
}
pattern xlnet(n) {
    space tokens[n]
    input w: float[heads, dim]
    input u: float[heads, dim]
    input r: float[2 * n, heads, dim]
    attend all -> all
    score (dot(q + w[head], k) + dot(q + u[head], r[n + k - q, head])) / sqrt(dim)
}
""")
TOKENS = 24
BUCKETS = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 16}


def made(name: str, **own: Any) -> Any:
    kind = getattr(transformers, name)
    config = tiny(kind.config_class, **own)
    config._attn_implementation = "eager"
    return stirred(kind(config))


def tokens(batch: int = 2, count: int = TOKENS) -> Tensor:
    return torch.randint(6, 60, (batch, count))


def of(
    each: Softmaxed, mask: maskdsl.Mask, scale: float | None = None, leaves: tuple[Tensor, ...] = (), **inputs: Tensor
) -> Compared:
    """An attention whose tokens are in the order of the pattern already, with more leaves."""
    return Compared(mask, each.q, each.k, each.v, each.out, (*each.leaves, *leaves), inputs, scale)


def bound(name: str, **values: Any) -> maskdsl.Mask:
    return PATTERNS[name].bind(**{"n": TOKENS, "heads": 4, **values})


def of_example(file: str, name: str, **values: Any) -> maskdsl.Mask:
    return example("language", file, name).bind(**{"n": TOKENS, "heads": 4, **values})


def t5(name: str, **own: Any) -> Family:
    """An encoder, and a decoder with cross-attention: buckets both ways, buckets backwards, none."""

    def family() -> Iterator[Compared]:
        model = made(name, num_layers=1, num_decoder_layers=1, **BUCKETS, **own)
        tables = [each.weight for each in model.modules() if getattr(each, "num_embeddings", 0) == 8]
        encoder, decoder, cross = attentions(model, input_ids=tokens(), decoder_input_ids=tokens(), use_cache=False)
        sizes = {"buckets": 8, "distance": 16}
        yield of(encoder, of_example("t5", "t5", **sizes), leaves=(tables[0],), table=tables[0].T)
        yield of(decoder, of_example("t5", "t5_decoder", **sizes), leaves=(tables[1],), table=tables[1].T)
        yield of(cross, bound("across", m=TOKENS), 1.0)

    return family


def mpnet() -> Iterator[Compared]:
    model = made("MPNetModel", num_hidden_layers=1, pad_token_id=1)
    table = model.encoder.relative_attention_bias.weight
    (each,) = attentions(model, tokens())
    yield of(each, bound("scaled_t5", buckets=32, distance=128), leaves=(table,), table=table.T)


def gpt_neo() -> Iterator[Compared]:
    model = made("GPTNeoModel", window_size=7)
    whole, local = attentions(model, tokens(), use_cache=False)
    yield of(whole, bound("causal_"), 1.0)
    yield of(local, bound("last", size=7), 1.0)


def with_slopes(name: str, slopes: Tensor, **own: Any) -> Family:
    """ALiBi, in the form that adds a number for the key alone, which softmax takes for that of the distance."""

    def family() -> Iterator[Compared]:
        model = made(name, **own)
        for each in attentions(model, tokens(), use_cache=False):
            q, k, v, out = (x.view(2, 4, TOKENS, -1) for x in (each.q, each.k, each.v, each.out))
            yield Compared(of_example("alibi", "alibi"), q, k, v, out, each.leaves, {"slope": slopes})

    return family


SLOPES = 2.0 ** -(2.0 * torch.arange(1, 5))


def deberta() -> Iterator[Compared]:
    """One text: products with tables are of each entry by itself."""
    own = {"pos_att_type": ["c2p", "p2c"], "relative_attention": True, "position_buckets": -1, "type_vocab_size": 0}
    model = made("DebertaV2Model", num_hidden_layers=1, max_relative_positions=9, **own)
    (each,) = attentions(model, tokens(batch=1))
    (q, _), (_, to_position), (k, from_position) = each.products
    c2p, p2c = (x.transpose(1, 2) for x in (to_position, from_position))
    vectors = [x.view(1, 4, TOKENS, -1) for x in (q, k, each.v, each.out)]
    mask = of_example("deberta", "deberta", span=9)
    yield Compared(mask, *vectors, (q, k, each.v, to_position, from_position), {"c2p": c2p, "p2c": p2c})


def xlnet() -> Iterator[Compared]:
    """The core of its attention, of a layer's own projections."""
    module = made("XLNetModel", n_layer=1, d_inner=48).layer[0].rel_attn
    q, k, v = torch.randn(3, TOKENS, 2, 4, 8, requires_grad=True)
    r = torch.randn(2 * TOKENS, 1, 4, 8, requires_grad=True)
    out = module.rel_attn_core(q, k, v, r.expand(-1, 2, -1, -1))
    inputs = {"w": module.r_w_bias, "u": module.r_r_bias, "r": r[:, 0]}
    vectors = [x.permute(1, 2, 0, 3) for x in (q, k, v, out)]
    leaves = q, k, v, r, module.r_w_bias, module.r_r_bias
    yield Compared(bound("xlnet"), *vectors, leaves, inputs)


def heads(x: Tensor) -> Tensor:
    """[batch, tokens, features] as [batch, 4 heads, tokens, dim]."""
    return x.unflatten(2, (4, -1)).transpose(1, 2)


def longformer() -> Iterator[Compared]:
    module = made("LongformerModel", num_hidden_layers=1, attention_window=[8]).encoder.layer[0].attention.self
    x = torch.randn(2, TOKENS, 32, requires_grad=True)
    none = torch.zeros(2, TOKENS)
    out = module(x, none, none.bool(), none.bool(), False)[0]
    vectors = [heads(each(x)) for each in (module.query, module.key, module.value)]
    leaves = x, module.query.weight, module.key.weight, module.value.weight
    yield Compared(of_example("longformer", "longformer", size=8, globals=0), *vectors, heads(out), leaves)


def lxmert() -> Iterator[Compared]:
    """Cross-attention between words and objects, beside attention of each."""
    own = {"num_qa_labels": 4, "l_layers": 1, "r_layers": 1, "x_layers": 1, "visual_feat_dim": 8}
    model = made("LxmertModel", **own)
    objects = {"visual_feats": torch.randn(2, 9, 8), "visual_pos": torch.rand(2, 9, 4)}
    for each in attentions(model, tokens(), **objects):
        lengths = each.q.shape[2], each.k.shape[2]
        yield of(each, PATTERNS["across"].bind(m=lengths[0], n=lengths[1]))


FAMILIES: dict[str, Family] = {
    "t5": t5("T5Model"),
    "mt5": t5("MT5Model"),
    "umt5": t5("UMT5Model"),
    "switch_transformers": t5("SwitchTransformersModel", num_sparse_encoder_layers=0, num_sparse_decoder_layers=0),
    "mpnet": mpnet,
    "gpt_neo": gpt_neo,
    "bloom": with_slopes("BloomModel", SLOPES),
    "mpt": with_slopes("MptModel", SLOPES),
    "deberta_v2": deberta,
    "xlnet": xlnet,
    "longformer": longformer,
    "lxmert": lxmert,
}

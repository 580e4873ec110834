"""Patterns as attention implementations of Hugging Face transformers: `attn_implementation="name"`.

The pattern alone decides which tokens attend which; of the model's mask only padding and packed texts are read. Tokens
are numbered without padding, so that a pattern means the same for every sequence of a batch. In decoding, lengths that
a pattern follows are those of the keys so far, rounded up to a multiple of 64.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from maskdsl import Attention, AttnError, BackendName, packed_attention
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.base.libraries import missing
from maskdsl.integrations.layers import Choice, Compiled, Layer, LayerPatterns, asked_scale, scaled_for
from maskdsl.integrations.padding import present_keys
from maskdsl.integrations.positions import MaskContent, Positions, as_pages, positions_of, unpack_mask
from maskdsl.integrations.shards import heads_here
from maskdsl.integrations.sinks import check_sinks, missing_sinks
from maskdsl.integrations.slot_inputs import BIAS, inputs_of_tokens

try:
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
except ImportError as error:
    raise missing(error, f"`{__name__}`", "transformers") from error

from maskdsl.integrations.model_shards import SHARDS, ModelShards
from maskdsl.integrations.transformers_masks import attention_mask
from maskdsl.integrations.transformers_models import REGISTERED, kind_of, layer_of

__all__ = ["ModelShards", "register"]

_CURES = {
    "dropout": "set the attention dropout of the configuration to 0",
    "s_aux": "add `sink s_aux[head]` to the pattern, with an `input s_aux: float[heads]`",
    "softcap": "add `score {value} * tanh(s / {value})` to the pattern",
    BIAS: "declare `input position_bias: float[batch, heads, tokens, tokens]`, and add it in `score`",
    "indices": "the keys that its indexer selects are a route of a pattern; or leave the model to its own attention",
    "block_indices": "the blocks that its indexer selects are a route of a pattern; or leave the model to its own",
}
"""Arguments of some models that a pattern does not compute, and the help for them."""
_RESERVED = "|", "flash"
"""What names may not hold: transformers takes them for kernels of its own."""
_EAGER = ("softcap", "s_aux")
"""Arguments that torch's own attention ignores."""


def register(
    name: str,
    pattern: Choice,
    *,
    follow: str | tuple[str, ...] = "n",
    backend: BackendName = "auto",
    masks: str = "refuse",
    **parameters: Any,
) -> None:
    """Makes `attn_implementation=name` compute this pattern in every model of this process.

    `pattern` is a `Mask` or a `Pattern` for all layers; or a mapping from types of layers ("sliding_attention",
    "full_attention", as in `config.layer_types`), numbers or roles ("self", "encoder", "cross"); or a function of a
    `Layer`, of number and type, or of number, type and role. None leaves a layer to the model, and so is
    cross-attention unless it is named. A `Pattern` is bound for the layer's heads and the lengths of each call, which
    are its parameters `follow`, with these `parameters`; a `Mask` has its length and heads. The pattern's inputs are
    given by name when the model is called.

    A mask of the model that holds more than padding and packed texts is refused, unless `masks="pattern"` vouches that
    the pattern covers all of it, packed texts included. Raises `AttnError`.
    """
    taken = name == "eager" or (name in AttentionInterface() and name not in REGISTERED)
    if taken or any(each in name for each in _RESERVED):
        raise AttnError(errors.TakenName(name=name, library="transformers"))
    patterns = LayerPatterns(name, pattern, parameters, follow, backend, masks)
    patterns.check()
    REGISTERED[name] = patterns
    AttentionInterface.register(name, partial(_attention_forward, patterns))
    AttentionMaskInterface.register(name, partial(attention_mask, patterns))


def _attention_forward(
    patterns: LayerPatterns,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """The attention function of transformers: q, k, v [batch, heads, tokens, dim], result [batch, tokens, heads, dim].

    `attention_mask` is a tensor of `pack_mask`, or the mask that the model's caller gives.
    """
    layer = layer_of(module)
    heads = heads_here(module, query.shape[1], key.shape[1])
    scale = asked_scale(query, scaling)
    attention = patterns.attention(layer, heads, others.get("softcap"), scale)
    shards = others.get(SHARDS)
    content = MaskContent() if shards is not None else unpack_mask(attention_mask, query.shape[2], key.shape[2])
    if attention is None:
        model_mask = attention_mask if content is None else _model_mask(patterns, content)
        return _by_model(module, query, key, value, model_mask, {**others, "scaling": scaling})
    if content is None:
        assert attention_mask is not None
        content = _content_of(patterns, layer, attention_mask, query, key)
    if content.positions is None and others.get("cu_seq_lens_q") is not None and patterns.masks != "pattern":
        content = MaskContent(texts=_texts_from(others["cu_seq_lens_q"], query))
    _check_others(patterns, attention, others)
    inputs = _inputs_of(attention, others)
    if layer.role != "cross" and shards is None:
        inputs = inputs_of_tokens(attention, inputs, key.shape[2], content.positions)
    query = scaled_for(attention, query, scale, patterns.name)
    if shards is None:
        out, lse = _attend(attention, layer, query, key, value, content, inputs)
    else:
        out, lse = _called(attention, query, key, value, partial(shards.attend, attention), **inputs)
    if others.get("s_aux") is not None and attention.sink_inputs is None and "s_aux" not in inputs:
        # Sinks of the model: for each head the score of a key without value.
        out = out * torch.sigmoid(lse - others["s_aux"].reshape(-1, 1))[..., None].to(out.dtype)
    return out.transpose(1, 2).contiguous(), None


def _inputs_of(attention: Compiled, others: dict[str, Any]) -> dict[str, Any]:
    """The pattern's inputs among a layer's arguments. The model's sinks are the one that the pattern's sinks read."""
    inputs = {name: others[name] for name in attention.inputs if name in others}
    if others.get("s_aux") is not None:
        inputs |= dict.fromkeys(missing_sinks(attention, others), others["s_aux"])
    return inputs


def _attend(
    attention: Compiled, layer: Layer, q: Tensor, k: Tensor, v: Tensor, content: MaskContent, inputs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """The output [batch, heads, tokens, dim] and its log-sum-exp, for the tokens in the mask tensor's content."""
    match content:
        case MaskContent(positions=Positions() as positions):
            return _in_positions(attention, q, k, v, _across(positions) if layer.role == "cross" else positions, inputs)
        case MaskContent(texts=Tensor() as texts):
            return packed_attention(attention, q, k, v, texts, **inputs)
        case _:
            return _called(attention, q, k, v, query_start=_first_query(attention, q, k), **inputs)


def _called(
    attention: Compiled, q: Tensor, k: Tensor, v: Tensor, call: Callable[..., Any] | None = None, **named: Any
) -> tuple[Tensor, Tensor]:
    """The results of a call, or of another `call`, with an empty log-sum-exp where the pattern has none."""
    call = call or attention
    if attention.has_lse:
        out, lse = call(q, k, v, return_lse=True, **named)
        return out, lse
    return call(q, k, v, **named), q.new_empty(0)


def _texts_from(ends: Tensor, query: Tensor) -> Tensor:
    """The first tokens of texts, bool [batch, queries], from the lengths so far of packed texts, int [texts + 1]."""
    count = query.shape[0] * query.shape[2]
    starts = torch.zeros(count + 1, dtype=torch.bool, device=query.device)
    starts[ends.long()] = True
    return starts[:count].view(query.shape[0], -1)


def _content_of(patterns: LayerPatterns, layer: Layer, mask: Tensor, query: Tensor, key: Tensor) -> MaskContent:
    """The content of a mask [batch, heads, queries, keys] of the caller: padding. Refused for causal self-attention."""
    vouched = patterns.masks == "pattern"
    if layer.role == "self":
        if vouched:
            return MaskContent()
        raise AttnError(errors.ForeignMask(name=patterns.name, what="a mask tensor of the caller's"))
    batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
    present = present_keys(patterns.name, mask, batch, keys, vouched)
    return MaskContent(positions_of(batch, queries, keys, 0, 0, present, query.device, causal=False))


# Layers that are left to the model


def _model_mask(patterns: LayerPatterns, content: MaskContent) -> Tensor | None:
    """The model's mask for a layer that is left to it, None where it has none. Raises if it was not computed."""
    if not content.has_model_mask:
        raise AttnError(
            errors.ForeignMask(name=patterns.name, what="a mask for a layer that was expected to have a pattern")
        )
    return content.model_mask


def _by_model(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, named: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """Computes a layer that is left to the model, by its own attention and mask."""
    attention = _library_attention(kind_of(module), any(named.get(each) is not None for each in _EAGER))
    if attention is not sdpa_attention_forward:
        is_causal = named.get("is_causal")
        is_causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
        if mask is None and query.shape[2] > 1 and is_causal:
            mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
        if mask is not None and mask.dtype == torch.bool:
            mask = torch.where(mask, 0.0, torch.finfo(query.dtype).min).to(query.dtype)
    result: tuple[Tensor, Tensor | None] = attention(module, query, key, value, mask, **named)
    return result


@cache
def _library_attention(kind: Any, eager: bool) -> Any:
    """The library's attention function that a class of module uses without a pattern."""
    file = sys.modules[kind.__module__]
    kinds: list[Any] = [each for each in vars(file).values() if isinstance(each, type)]
    models = [each for each in kinds if issubclass(each, PreTrainedModel) and each.__module__ == kind.__module__]
    theirs = not eager and all(each._supports_sdpa for each in models)
    return sdpa_attention_forward if theirs else file.eager_attention_forward


# Partial calls


def _first_query(attention: Compiled, query: Tensor, key: Tensor) -> int | None:
    """`query_start` of a call whose tokens are all tokens so far: 0 if the mask is longer than they are, else None."""
    if not isinstance(attention, Attention) or not attention.self_attention:
        return None
    return 0 if query.shape[2] == key.shape[2] < attention.query_length else None


def _across(positions: Positions) -> Positions:
    """The positions for cross-attention: every query slot is a token of its own sequence, from 0."""
    order = torch.arange(positions.order.shape[1], device=positions.order.device)
    order = order.expand_as(positions.order)
    return positions._replace(order=order, start=torch.zeros_like(positions.start))


def _in_positions(
    attention: Compiled, q: Tensor, k: Tensor, v: Tensor, positions: Positions, inputs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """A partial call at these positions."""
    order, table = positions.order[:, None], positions.pages(k.shape[2])
    ordered = q.take_along_dim(order[..., None], 2)
    paging: dict[str, Any] = {"query_start": positions.start, "page_table": table}
    out, lse = _called(attention, ordered, as_pages(k), as_pages(v), **paging, **inputs)
    back = order.argsort(2)
    if attention.has_lse:
        lse = lse.take_along_dim(back if lse.dim() == 3 else back[:, None], -1)
    return out.take_along_dim(back[..., None], 2), lse


def _check_others(patterns: LayerPatterns, attention: Compiled, others: dict[str, Any]) -> None:
    """Raises `AskedMore` for arguments of the model that the pattern does not compute."""
    if others.get("s_aux") is not None:
        check_sinks(patterns.name, attention, others)
    for name, cure in _CURES.items():
        value = others.get(name)
        is_covered = name in attention.inputs or (name == "softcap" and attention.changes_scores)
        is_covered |= name == "s_aux" and (attention.has_lse or attention.sink_inputs is not None)
        if value is None or (name == "dropout" and not value) or is_covered:
            continue
        if name == BIAS and not is_compiling() and not bool(value.any()):  # as in cross-attention of T5
            continue
        cure = cure.replace("{value}", str(value))
        raise AttnError(errors.AskedMore(name=patterns.name, argument=name, cure=cure))

"""Patterns as attention implementations of Hugging Face transformers: `attn_implementation="name"`.

A pattern says all of which tokens attend which; what the model's own mask says besides padding is not looked at.
Tokens are numbered without padding, so that a pattern means the same for every sequence of a batch. In decoding,
lengths that a pattern follows are those of the keys so far, rounded up to a multiple of 64.
"""

from __future__ import annotations

import sys
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from maskdsl import Attention, AttnError, BackendName, packed_attention
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Choice, Compiled, Layer, LayerPatterns, rescaled
from maskdsl.integrations.padding import present_keys
from maskdsl.integrations.positions import Carried, Positions, as_pages, carried, positions_of
from maskdsl.integrations.shards import heads_here

try:
    from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
except ImportError as error:
    raise AttnError(errors.MissingLibrary(module=__name__, library="transformers", reason=str(error))) from error

from maskdsl.integrations.transformers_masks import attention_mask
from maskdsl.integrations.transformers_models import REGISTERED, kind_of, layer_of

__all__ = ["register"]

_CURES = {
    "dropout": "set the attention dropout of the configuration to 0",
    "softcap": "add `score {value} * tanh(s / {value})` to the pattern",
    "position_bias": "add it in the pattern, as an `input position_bias` that `score` reads",
    "indices": "the keys that its indexer selects are a route of a pattern; or leave the model to its own attention",
    "block_indices": "the blocks that its indexer selects are a route of a pattern; or leave the model to its own",
}
"""What some models ask for besides a mask, and what to do about it."""
_EAGER = ("softcap", "s_aux")
"""What torch's own attention ignores."""


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

    `pattern` is one, or a mapping by type of layer ("sliding_attention", "full_attention"), number or role ("self",
    "encoder", "cross"), or a function of a `Layer`, or of number and type, type being that of `config.layer_types`.
    None leaves a layer to the model, as attention to another sequence is that nothing is said about. A `Pattern` is
    bound for the lengths of each call, which `follow` names, and the heads of the layer, with these `parameters`; a
    `Mask` has its length and heads. Inputs of the pattern are given by name when the model is called.

    What a model's own mask says beyond padding and texts that follow each other is refused. With `masks="pattern"` you
    vouch that the pattern says all of it, and of such texts. Raises `AttnError`.
    """
    if (name in AttentionInterface() and name not in REGISTERED) or name == "eager" or {"/", "|"} & {*name}:
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
    """As `sdpa_attention_forward` of transformers: q, k, v [batch, heads, tokens, dim], result [batch, tokens, ...].

    Its mask is what `carry` has made, or what the caller of the model gives.
    """
    layer = layer_of(module)
    attention = patterns.attention(layer, heads_here(module, query.shape[1], key.shape[1]))
    told = carried(attention_mask, query.shape[2], key.shape[2])
    if attention is None:
        own = attention_mask if told is None else _own_mask(patterns, told)
        return _left(module, query, key, value, own, {**others, "scaling": scaling})
    if told is None:
        assert attention_mask is not None
        told = _told_by(patterns, layer, attention_mask, query, key)
    _check_others(patterns, attention, others)
    inputs = {name: others[name] for name in attention.inputs if name in others}
    if scaling is not None:
        query = rescaled(query, scaling)
    out, lse = _attend(attention, layer, query, key, value, told, inputs)
    if others.get("s_aux") is not None:  # a key of no value whose score is this one, of each head
        out = out * torch.sigmoid(lse - others["s_aux"].reshape(-1, 1))[..., None].to(out.dtype)
    return out.transpose(1, 2).contiguous(), None


def _attend(
    attention: Compiled, layer: Layer, q: Tensor, k: Tensor, v: Tensor, told: Carried, inputs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """The output and its log-sum-exp, over [batch, heads, tokens, dim], of tokens as `told`."""
    match told:
        case Carried(positions=Positions() as positions):
            return _in_positions(attention, q, k, v, _across(positions) if layer.role == "cross" else positions, inputs)
        case Carried(texts=Tensor() as texts):
            return packed_attention(attention, q, k, v, texts, **inputs)
        case _:
            out, lse = attention(q, k, v, query_start=_first_query(attention, q, k), return_lse=True, **inputs)
            return out, lse


def _told_by(patterns: LayerPatterns, layer: Layer, mask: Tensor, query: Tensor, key: Tensor) -> Carried:
    """What a mask of the caller's says, [batch, heads, queries, keys]: which keys are padding, unless it is causal."""
    vouched = patterns.masks == "pattern"
    if layer.role == "self":
        if vouched:
            return Carried()
        raise AttnError(errors.ForeignMask(name=patterns.name, what="a mask tensor of the caller's"))
    batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
    present = present_keys(patterns.name, mask, batch, keys, vouched)
    return Carried(positions_of(batch, queries, keys, 0, 0, present, query.device, causal=False))


# Layers that are left to the model


def _own_mask(patterns: LayerPatterns, told: Carried) -> Tensor | None:
    """The model's own mask, None where it has none."""
    if not told.asked:
        raise AttnError(errors.ForeignMask(name=patterns.name, what="a mask for a layer that was not to be left to it"))
    return told.own


def _left(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, own: Tensor | None, named: dict[str, Any]
) -> tuple[Tensor, Tensor | None]:
    """By the model's own attention, with its own mask."""
    attention = _own_attention(kind_of(module), any(named.get(each) is not None for each in _EAGER))
    if attention is not sdpa_attention_forward:
        asked = named.get("is_causal")
        if own is None and query.shape[2] > 1 and (getattr(module, "is_causal", True) if asked is None else asked):
            own = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
        if own is not None and own.dtype == torch.bool:
            own = torch.where(own, 0.0, torch.finfo(query.dtype).min).to(query.dtype)
    result: tuple[Tensor, Tensor | None] = attention(module, query, key, value, own, **named)
    return result


@cache
def _own_attention(kind: Any, eager: bool) -> Any:
    """The attention of the library that a class would have asked for, with the masks that are its own."""
    file = sys.modules[kind.__module__]
    kinds: list[Any] = [each for each in vars(file).values() if isinstance(each, type)]
    models = [each for each in kinds if issubclass(each, PreTrainedModel) and each.__module__ == kind.__module__]
    theirs = not eager and all(each._supports_sdpa for each in models)
    return sdpa_attention_forward if theirs else file.eager_attention_forward


# Tokens that stand anywhere


def _first_query(attention: Compiled, query: Tensor, key: Tensor) -> int | None:
    """Where all tokens are the first ones of a mask that was bound for more, 0."""
    if not isinstance(attention, Attention) or not attention.self_attention:
        return None
    return 0 if query.shape[2] == key.shape[2] < attention.query_length else None


def _across(positions: Positions) -> Positions:
    """For queries of another sequence than that of the keys, which all stand where they are given."""
    order = torch.arange(positions.order.shape[1], device=positions.order.device)
    return Positions(positions.slots, order.expand_as(positions.order), torch.zeros_like(positions.start))


def _in_positions(
    attention: Compiled, q: Tensor, k: Tensor, v: Tensor, positions: Positions, inputs: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Attention of queries and keys that stand anywhere."""
    order, table = positions.order[:, None], positions.pages(k.shape[2])
    own = q.take_along_dim(order[..., None], 2)
    where: dict[str, Any] = {"query_start": positions.start, "page_table": table}
    out, lse = attention(own, as_pages(k), as_pages(v), return_lse=True, **where, **inputs)
    back = order.argsort(2)
    return out.take_along_dim(back[..., None], 2), lse.take_along_dim(back, 2)


def _check_others(patterns: LayerPatterns, attention: Compiled, others: dict[str, Any]) -> None:
    """Raises if the model asks for more than a pattern computes."""
    for name, cure in _CURES.items():
        asked = others.get(name)
        said = name in attention.inputs or (name == "softcap" and attention.changes_scores)
        if asked is None or (name == "dropout" and not asked) or said:
            continue
        cure = cure.replace("{value}", str(asked))
        raise AttnError(errors.AskedMore(name=patterns.name, argument=name, cure=cure))

"""Patterns as attention implementations of Hugging Face transformers: `attn_implementation="name"`.

A pattern says all of which tokens attend which; what the model's own mask says besides padding is not looked at.
Tokens are numbered without padding, so that a pattern means the same for every sequence of a batch. In decoding,
lengths that a pattern follows are those of the keys so far, rounded up to a multiple of 64.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from maskdsl.analysis.tiles import tiles
from maskdsl.diagnostics import AttnError
from maskdsl.errors import libraries as errors
from maskdsl.integrations.choices import Choice, Choices, rescaled
from maskdsl.integrations.places import Places, as_pages, is_places, places_of
from maskdsl.integrations.shards import heads_here
from maskdsl.ir.candidates import most
from maskdsl.ir.expressions import Constant, Coordinate, Side, apply
from maskdsl.ir.heads import Heads
from maskdsl.ir.ops import Op
from maskdsl.plan import make_plan
from maskdsl.runtime.attention import Attention, BaseAttention
from maskdsl.runtime.following import Following
from maskdsl.runtime.recipes import find
from maskdsl.syntax.tree import ScoreStatement

try:
    from transformers import AttentionInterface, AttentionMaskInterface
except ImportError as error:
    raise AttnError(errors.MissingLibrary(module=__name__, library="transformers", reason=str(error))) from error

REGISTERED: dict[str, Choices] = {}
SLIDING = ("sliding_attention", "chunked_attention")
CURES = {
    "dropout": "set the attention dropout of the configuration to 0",
    "softcap": "add `score {value} * tanh(s / {value})` to the pattern",
    "s_aux": "attention sinks of one score a head are not said by patterns",
    "position_bias": "add it in the pattern, as an `input` that `score` reads",
}
"""What some models ask for besides a mask, and what to do about it."""


def register(
    name: str,
    pattern: Choice,
    *,
    follow: str | tuple[str, ...] = "n",
    backend: str = "auto",
    **parameters: Any,
) -> None:
    """Makes `attn_implementation=name` compute this pattern in every model of this process.

    `pattern` is one, or a mapping by type of layer ("sliding_attention", "full_attention") or number, or a function
    `(number, type)`, type being that of `config.layer_types`. A `Pattern` is bound for the lengths of each call, which
    `follow` names, and the heads of the layer, with these `parameters`; a `Mask` has its length and heads. Inputs of
    the pattern are given by name when the model is called. Raises `AttnError`.
    """
    if (name in AttentionInterface() and name not in REGISTERED) or name == "eager" or {"/", "|"} & {*name}:
        raise AttnError(errors.TakenName(name=name, library="transformers"))
    choices = Choices(name, pattern, parameters, follow, backend)
    choices.check()
    REGISTERED[name] = choices
    AttentionInterface.register(name, partial(attention_forward, choices))
    AttentionMaskInterface.register(name, partial(attention_mask, choices))


def attention_forward(
    choices: Choices,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """As `sdpa_attention_forward` of transformers: q, k, v [batch, heads, tokens, dim], result [batch, tokens, ...].

    Its mask is what `attention_mask` below has made: None where all tokens are given and nothing else.
    """
    attention = choices.attention(*layer_of(module), heads_here(module, query.shape[1], key.shape[1]))
    check_others(choices, attention, others)
    inputs = {name: others[name] for name in attention.signature.inputs if name in others}
    if scaling is not None:
        query = rescaled(query, scaling)
    if attention_mask is None:
        out = attention(query, key, value, query_start=first_query(attention, query, key), **inputs)
    elif is_places(attention_mask):
        out = in_places(attention, query, key, value, Places.of(attention_mask, query.shape[2]), inputs)
    else:
        raise AttnError(errors.ForeignMask(name=choices.name, what="a mask tensor of the caller's"))
    assert isinstance(out, Tensor)
    return out.transpose(1, 2).contiguous(), None


def first_query(attention: BaseAttention, query: Tensor, key: Tensor) -> int | None:
    """Where all tokens are the first ones of a mask that was bound for more, 0."""
    if not isinstance(attention, Attention) or not attention.mask.self_attention:
        return None
    return 0 if query.shape[2] == key.shape[2] < attention.mask.queries.length else None


def in_places(
    attention: BaseAttention, query: Tensor, key: Tensor, value: Tensor, places: Places, inputs: dict[str, Any]
) -> Tensor:
    """Attention of queries and keys that stand anywhere."""
    order = places.order[:, None, :, None]
    own, table = query.take_along_dim(order, 2), places.pages(key.shape[2])
    out = attention(own, as_pages(key), as_pages(value), query_start=places.start, page_table=table, **inputs)
    assert isinstance(out, Tensor)
    return out.take_along_dim(order.argsort(2), 2)


def layer_of(module: nn.Module) -> tuple[int | None, str | None]:
    """The number and the type of the layer that an attention belongs to, as far as it has them."""
    layer = getattr(module, "layer_idx", None)
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    return layer, None if layer is None or kinds is None else kinds[layer]


def check_others(choices: Choices, attention: BaseAttention, others: dict[str, Any]) -> None:
    """Raises if the model asks for more than a pattern computes."""
    for name, cure in CURES.items():
        asked = others.get(name)
        if asked is None or (name == "dropout" and not asked) or (name == "softcap" and has_scores(attention)):
            continue
        cure = cure.replace("{value}", str(asked))
        raise AttnError(errors.AskedMore(name=choices.name, argument=name, cure=cure))


def has_scores(attention: BaseAttention) -> bool:
    recipe = attention.recipe
    if isinstance(recipe, Following):
        statements = recipe.program.patterns[recipe.pattern].statements
        return any(isinstance(each, ScoreStatement) for each in statements)
    return isinstance(attention, Attention) and bool(attention.mask.scores)


# Masks, once for each call of a model


def attention_mask(
    choices: Choices,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    attention_mask: Tensor | None = None,
    device: torch.device | str = "cpu",
    **others: Any,
) -> Tensor | None:
    """What layers get as their mask: None where there is neither padding nor a cache, else places of tokens."""
    bidirectional = "allow_is_bidirectional_skip" in others
    check_overlays(choices, q_length, bidirectional, others)
    if kv_offset:
        check_dropped(choices, others["config"], int(q_offset), kv_offset, kv_length, "local_size" in others)
    alone = isinstance(q_offset, int) and q_offset == 0 and kv_offset == 0 and (bidirectional or q_length == kv_length)
    if alone and (attention_mask is None or (not is_compiling() and bool(attention_mask.all()))):
        return None
    return places_of(batch_size, q_length, kv_length, q_offset, kv_offset, attention_mask, device)


def check_overlays(choices: Choices, queries: int, bidirectional: bool, others: dict[str, Any]) -> None:
    """Raises if the model changes its mask by more than padding, so far as that is seen: not of packed sequences while
    a model is compiled, as transformers then takes all for packed.
    """
    if others.get("use_vmap"):
        raise AttnError(errors.ForeignMask(name=choices.name, what="a mask function of its own"))
    if not (bidirectional or queries == 1 or is_compiling() or others.get("allow_is_causal_skip", True)):
        raise AttnError(errors.ForeignMask(name=choices.name, what="packed sequences or blocks of tokens"))


def check_dropped(choices: Choices, config: Any, queries: int, dropped: int, keys: int, local: bool) -> None:
    """Raises if a layer attends what its cache has dropped: the first tokens."""
    kinds = getattr(config, "layer_types", None) or [None] * config.num_hidden_layers
    length, distance = 1 << (dropped + keys - 1).bit_length(), queries - dropped + 1
    for layer, kind in enumerate(kinds):
        if kind is None or (kind in SLIDING) == local:
            handle = choices.attention(layer, kind, Heads(config.num_attention_heads)).handle
            if reaches(handle, length, distance):
                mask = find(handle).bound(length, length).plan.mask
                raise AttnError(errors.DroppedKeys(pattern=mask.name, distance=distance, span=mask.span))


@lru_cache(maxsize=1024)
def reaches(handle: str, length: int, distance: int) -> bool:
    """Whether a query may attend a token so far back or further, by exact tiles.

    Where the caller's inputs decide, nobody knows: False. Routes may select all of their candidates.
    """
    mask = most(find(handle).bound(length, length).plan.mask)
    if make_plan(mask).tile_inputs:
        return bool(mask.found)
    back = apply(Op.SUBTRACT, Coordinate(Side.QUERY, "i"), Coordinate(Side.KEY, "i"))
    far = apply(Op.AND, mask.relation, apply(Op.LESS_EQUAL, Constant(distance), back))
    queries, keys = (replace(each, order=()) for each in (mask.queries, mask.keys))
    found = tiles(replace(mask, relation=far, queries=queries, keys=keys))
    return any(variant.full.count or variant.partial.count for variant in found.variants)

"""The mask function of transformers: makes the tensor of `pack_mask` that layers get in place of the model's mask.

The library calls it once for each kind of mask and each call of a model, with a function of pairs that defines the
model's mask. That function is only evaluated for pairs of neighbours, which show whether texts are packed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling
from transformers.masking_utils import sdpa_mask

from maskdsl import AttnError, Heads
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Compiled, Layer, LayerPatterns, Role
from maskdsl.integrations.padding import LIBRARY
from maskdsl.integrations.positions import MaskContent, pack_mask, positions_of

_SLIDING = ("sliding_attention", "chunked_attention")
Pairs = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A mask function of transformers: maps batch entry, head, query and key to bool."""


def attention_mask(
    patterns: LayerPatterns,
    batch_size: int,
    q_length: int,
    kv_length: int,
    mask_function: Pairs,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    attention_mask: Tensor | None = None,
    device: torch.device | str = "cpu",
    **others: Any,
) -> Tensor:
    """The mask tensor of a call: see `pack_mask`. Arguments are those of transformers' `sdpa_mask`."""
    bidirectional = "allow_is_bidirectional_skip" in others
    vouched = patterns.masks == "pattern"
    kv_offset, local = int(kv_offset), "local_size" in others
    if others.get("use_vmap") and not vouched:
        raise AttnError(errors.ForeignMask(name=patterns.name, what="a mask function of its own"))
    if kv_offset:
        _check_dropped(patterns, others["config"], int(q_offset), kv_offset, kv_length, local)
    texts = None
    if not (bidirectional or vouched or q_length == 1 or others.get("allow_is_causal_skip", True)):
        texts = _first_of_texts(patterns.name, batch_size, q_length, mask_function, device)
    aligned = isinstance(q_offset, int) and q_offset == kv_offset == 0 and (bidirectional or q_length == kv_length)
    whole = attention_mask is None or (not is_compiling() and bool(attention_mask.all()))
    model_mask, has_model_mask = None, _leaves_layers(patterns, others.get("config"), local, bidirectional)
    if has_model_mask:
        if not (aligned and whole and texts is None):
            others |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        sizes = batch_size, q_length, kv_length, q_offset, kv_offset
        model_mask = sdpa_mask(*sizes, mask_function, attention_mask, device=device, **others)
    if texts is not None or (aligned and whole and model_mask is None):
        content = MaskContent(texts=texts, model_mask=model_mask, has_model_mask=has_model_mask)
        return pack_mask(q_length, content, device)
    positions = positions_of(
        batch_size, q_length, kv_length, q_offset, kv_offset, attention_mask, device, not bidirectional
    )
    return pack_mask(q_length, MaskContent(positions, model_mask=model_mask), device)


def _leaves_layers(patterns: LayerPatterns, config: Any, local: bool, bidirectional: bool) -> bool:
    """Whether a layer that gets this mask may be left to the model, which then needs its own mask."""
    roles: tuple[Role, ...] = ("self",)
    if bidirectional:
        crosses = any(
            getattr(config, each, False) for each in ("is_encoder_decoder", "add_cross_attention", "is_decoder")
        )
        roles = ("encoder", "cross") if crosses else ("encoder",)
    layers = [
        (None, None),
        *((number, kind) for number, kind in enumerate(_kinds_of(config)) if _is_local(kind, local)),
    ]
    return any(patterns.leaves(Layer(*each, role)) for each in layers for role in roles)


def _kinds_of(config: Any) -> list[str | None]:
    """The types of a model's layers, in order; None for each where the configuration names no types."""
    return getattr(config, "layer_types", None) or [None] * (getattr(config, "num_hidden_layers", None) or 0)


def _is_local(kind: str | None, local: bool) -> bool:
    """Whether a layer of this type may get the `local` mask, of sliding or chunked attention, or the other one."""
    return kind is None or (kind in _SLIDING) == local


# Packed texts


def _first_of_texts(
    name: str, batch: int, queries: int, mask_function: Pairs, device: torch.device | str
) -> Tensor | None:
    """The first tokens of texts, which do not attend the token before them: bool [batch, queries].

    None if each sequence is one text; in a compiled graph, which cannot know that, never. Raises as `_starts` does.
    """
    entry = torch.arange(batch, device=device)[:, None]
    tokens = torch.arange(queries, device=device)[None]
    head = torch.zeros_like(entry)
    before, after = tokens[:, :-1], tokens[:, 1:]
    joined, ahead = (mask_function(entry, head, *pair).expand(batch, -1) for pair in ((after, before), (before, after)))
    starts = _STARTS(joined, ahead, name)
    return starts if is_compiling() or bool(starts[:, 1:].any()) else None


def _starts(joined: Tensor, ahead: Tensor, name: str) -> Tensor:
    """The kernel of `maskdsl::text_starts`: an operator, since it reads values.

    `joined` and `ahead`, bool [batch, queries - 1], say whether a token attends the one before it and the one after it.
    Raises `ForeignMask` for the latter: blocks of tokens that see each other are no texts. On a GPU an assertion fails.
    """
    if ahead.device.type != "cpu":
        torch._assert_async(ahead.logical_not().all())
    elif bool(ahead.any()):
        raise AttnError(errors.ForeignMask(name=name, what="blocks of tokens that attend each other both ways"))
    return torch.nn.functional.pad(joined.logical_not(), (1, 0), value=True)


def _fake_starts(joined: Tensor, ahead: Tensor, name: str) -> Tensor:
    return joined.new_empty((joined.shape[0], joined.shape[1] + 1))


LIBRARY.define("text_starts(Tensor joined, Tensor ahead, str name) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
_STARTS = torch.ops.maskdsl.text_starts.default
LIBRARY.impl("text_starts", _starts, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::text_starts", _fake_starts, lib=LIBRARY)


# Caches that drop their first keys


def _check_dropped(patterns: LayerPatterns, config: Any, queries: int, dropped: int, keys: int, local: bool) -> None:
    """Raises `DroppedKeys` if a layer may attend keys that its cache has dropped."""
    length, distance = 1 << (dropped + keys - 1).bit_length(), queries - dropped + 1
    whole = config.num_attention_heads
    heads = Heads(whole, getattr(config, "num_key_value_heads", None) or whole)
    for number, kind in enumerate(_kinds_of(config)):
        if _is_local(kind, local):
            attention = patterns.attention(Layer(number, kind), heads)
            if attention is not None and _reaches(attention, length, distance):
                raise AttnError(errors.DroppedKeys(pattern=attention.name, distance=distance, span=attention.span))


@lru_cache(maxsize=1024)
def _reaches(attention: Compiled, length: int, distance: int) -> bool | None:
    """`Attention.reaches` at this length, cached."""
    return attention.at(length).reaches(distance)

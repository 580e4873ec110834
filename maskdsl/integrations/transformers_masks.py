"""What layers of transformers get as their mask: where tokens stand, and the model's own mask for layers left to it.

Called by the library once for each kind of mask and each call of a model, with a function of pairs that says what the
model's own mask is. That function is asked for pairs of neighbours alone, which tell whether texts follow each other.
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
from maskdsl.integrations.positions import Carried, carry, positions_of

_SLIDING = ("sliding_attention", "chunked_attention")
Pairs = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""A mask function of transformers: of batch entry, head, query and key."""


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
    """See `carry`. Arguments are those of `sdpa_mask` of transformers."""
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
    together = isinstance(q_offset, int) and q_offset == kv_offset == 0 and (bidirectional or q_length == kv_length)
    whole = attention_mask is None or (not is_compiling() and bool(attention_mask.all()))
    own, asked = None, _leaves_layers(patterns, others.get("config"), local, bidirectional)
    if asked:
        if not (together and whole and texts is None):
            others |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        sizes = batch_size, q_length, kv_length, q_offset, kv_offset
        own = sdpa_mask(*sizes, mask_function, attention_mask, device=device, **others)
    if texts is not None or (together and whole and own is None):
        return carry(q_length, Carried(texts=texts, own=own, asked=asked), device)
    positions = positions_of(
        batch_size, q_length, kv_length, q_offset, kv_offset, attention_mask, device, not bidirectional
    )
    return carry(q_length, Carried(positions, own=own), device)


def _leaves_layers(patterns: LayerPatterns, config: Any, local: bool, bidirectional: bool) -> bool:
    """Whether a layer that gets this mask may be left to the model."""
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
    """The types of a model's layers, None where all are alike."""
    return getattr(config, "layer_types", None) or [None] * (getattr(config, "num_hidden_layers", None) or 0)


def _is_local(kind: str | None, local: bool) -> bool:
    """Whether a layer of this type may get the mask that is local, or the one that is not."""
    return kind is None or (kind in _SLIDING) == local


# Texts that follow each other


def _first_of_texts(
    name: str, batch: int, queries: int, mask_function: Pairs, device: torch.device | str
) -> Tensor | None:
    """Bool [batch, queries]: the first tokens of texts, which do not attend the token in front of them.

    None if each sequence is one text, where that can be known without waiting for a compiled graph. Raises if a token
    attends the next one, so far as that is seen here; see `_starts` below.
    """
    entry = torch.arange(batch, device=device)[:, None]
    tokens = torch.arange(queries, device=device)[None]
    head = torch.zeros_like(entry)
    before, after = tokens[:, :-1], tokens[:, 1:]
    joined, ahead = (mask_function(entry, head, *pair).expand(batch, -1) for pair in ((after, before), (before, after)))
    found = _STARTS(joined, ahead, name)
    return found if is_compiling() or bool(found[:, 1:].any()) else None


def _starts(joined: Tensor, ahead: Tensor, name: str) -> Tensor:
    """An operator, as it looks at values: blocks of tokens that see each other are no texts."""
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


# Caches that drop their first tokens


def _check_dropped(patterns: LayerPatterns, config: Any, queries: int, dropped: int, keys: int, local: bool) -> None:
    """Raises if a layer attends what its cache has dropped: the first tokens."""
    length, distance = 1 << (dropped + keys - 1).bit_length(), queries - dropped + 1
    for number, kind in enumerate(_kinds_of(config)):
        if _is_local(kind, local):
            attention = patterns.attention(Layer(number, kind), Heads(config.num_attention_heads))
            if attention is not None and _reaches(attention, length, distance):
                raise AttnError(errors.DroppedKeys(pattern=attention.name, distance=distance, span=attention.span))


@lru_cache(maxsize=1024)
def _reaches(attention: Compiled, length: int, distance: int) -> bool | None:
    """See `Attention.reaches`."""
    return attention.at(length).reaches(distance)

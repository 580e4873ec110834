"""Reads mask tensors that only mark padding: the operator `maskdsl::present_keys`. Imports torch only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskdsl import AttnError
from maskdsl.base.errors.calls import libraries as errors

LIBRARY: Any = torch.library.Library("maskdsl", "FRAGMENT")  # type: ignore[no-untyped-call]
"""The library in which integrations define operators."""
_HIDDEN = -1e4
"""A float mask hides a key by adding this or less to its score."""


def present_keys(name: str, mask: Tensor, batch: int, keys: int, vouched: bool) -> Tensor:
    """The keys that are not padding, bool [batch, keys].

    `mask` broadcasts to scores [batch, heads, queries, keys]: booleans, or floats added to scores. If it hides the same
    keys from all queries and heads, these are padding; queries from which it hides everything are padding too. Any
    other mask raises `AttnError` in the name of pattern `name`; with `vouched`, which says that the pattern covers the
    mask, all keys are present instead.
    """
    present: Tensor = _PRESENT(mask, name, vouched)
    return present.expand(batch, keys)


def _present(mask: Tensor, name: str, vouched: bool) -> Tensor:
    """The kernel of `maskdsl::present_keys`: an operator, since it reads values. Returns bool [batch or 1, keys]."""
    mask, shown = _of_four_axes(mask)
    keys = shown.any(dim=(1, 2))
    plain = mask.dtype == torch.bool or bool((mask[shown] == 0).all())
    if plain and bool((shown == keys[:, None, None]).logical_or(~shown.any(-1, keepdim=True)).all()):
        return keys
    if not vouched:
        raise AttnError(errors.ForeignMask(name=name, what="a mask of its own"))
    return torch.ones_like(keys)


def _of_four_axes(mask: Tensor) -> tuple[Tensor, Tensor]:
    """A mask that broadcasts to [batch, heads, queries, keys], with four axes; and what it shows, as booleans."""
    mask = mask.reshape((1,) * (4 - mask.dim()) + mask.shape)
    return mask, mask if mask.dtype == torch.bool else mask > _HIDDEN


def without_padding(out: Tensor, mask: Tensor) -> Tensor:
    """An output [batch, heads, queries, dim] with zeros for queries from which the mask hides everything."""
    _, shown = _of_four_axes(mask)
    return out.where(shown.any(-1, keepdim=True), 0)


def _fake_present(mask: Tensor, name: str, vouched: bool) -> Tensor:
    batch = mask.shape[0] if mask.dim() == 4 else 1
    return mask.new_empty((batch, mask.shape[-1]), dtype=torch.bool)


LIBRARY.define("present_keys(Tensor mask, str name, bool vouched) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
_PRESENT = torch.ops.maskdsl.present_keys.default
LIBRARY.impl("present_keys", _present, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::present_keys", _fake_present, lib=LIBRARY)

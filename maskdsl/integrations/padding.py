"""Masks of tensors that say no more than which keys there are. Imports torch only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskdsl import AttnError
from maskdsl.base.errors.calls import libraries as errors

LIBRARY: Any = torch.library.Library("maskdsl", "FRAGMENT")  # type: ignore[no-untyped-call]
"""Of the operators that integrations have."""
_HIDDEN = -1e4
"""What is added to scores that are to count for nothing is this or less."""


def present_keys(name: str, mask: Tensor, batch: int, keys: int, vouched: bool) -> Tensor:
    """Bool [batch, keys], from a mask that goes with scores [batch, heads, queries, keys]: booleans, or what is added.

    Where it hides the same keys for all queries and heads, these are not there. Any other mask says what a pattern
    `name` does not know, and raises `AttnError`; `vouched`, it says nothing that the pattern does not.
    """
    found: Tensor = _PRESENT(mask, name, vouched)
    return found.expand(batch, keys)


def _present(mask: Tensor, name: str, vouched: bool) -> Tensor:
    """An operator, as it looks at values."""
    mask = mask.reshape((1,) * (4 - mask.dim()) + mask.shape)
    there = mask if mask.dtype == torch.bool else mask > _HIDDEN
    rows = there[:, :1, :1]
    plain = mask.dtype == torch.bool or bool((mask[there] == 0).all())
    if plain and bool((there == rows).all()):
        return rows[:, 0, 0].clone()
    if not vouched:
        raise AttnError(errors.ForeignMask(name=name, what="a mask of its own"))
    return torch.ones_like(rows[:, 0, 0])


def _fake_present(mask: Tensor, name: str, vouched: bool) -> Tensor:
    batch = mask.shape[0] if mask.dim() == 4 else 1
    return mask.new_empty((batch, mask.shape[-1]), dtype=torch.bool)


LIBRARY.define("present_keys(Tensor mask, str name, bool vouched) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,))
_PRESENT = torch.ops.maskdsl.present_keys.default
LIBRARY.impl("present_keys", _present, "CompositeExplicitAutograd")
torch.library.register_fake("maskdsl::present_keys", _fake_present, lib=LIBRARY)

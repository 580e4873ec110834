"""The compiled mask of calls with dropout, which operators find by a handle of its own, and the inputs of a call."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import numpy as np
import torch
from torch import Tensor

from maskdsl.base.diagnostics import AttnError, shown
from maskdsl.base.errors.calls.normalization import WrongDropout
from maskdsl.ir.rewrites.dropout import BELOW, DROPOUT_INPUTS, FACTOR, SEED
from maskdsl.runtime.base.digest import digest
from maskdsl.runtime.base.validate import INTEGER_TYPES, Signature
from maskdsl.runtime.compiled.compiled_mask import Bound, CompiledMask, Summands

_WORDS = 2**32
"""The numbers of 32 bits: all that a seed's pairs depend on."""


@dataclass(frozen=True, eq=False)
class DroppedMask:
    """A compiled mask that drops pairs. A `CompiledMask`, whose calls take `DROPOUT_INPUTS` too."""

    whole: CompiledMask

    @cached_property
    def handle(self) -> str:
        return digest((self.whole.handle, "dropout"))

    @cached_property
    def signature(self) -> Signature:
        """The names that a call takes."""
        whole = self.whole.signature
        return replace(whole, inputs={**whole.inputs, **dict.fromkeys(DROPOUT_INPUTS)})

    @cached_property
    def summands(self) -> Summands:
        """Those of the mask, each with dropout."""
        return self.whole.summands._replace(masks=tuple(map(DroppedMask, self.whole.summands.masks)))

    def bound(self, queries: int, keys: int) -> Bound:
        """The mask at these lengths."""
        return self.whole.bound(queries, keys).dropped

    def bound_to_longest(self, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor) -> Bound:
        """The mask at the lengths of the longest packed sequences. May wait for the device."""
        return self.whole.bound_to_longest(cu_seqlens_q, cu_seqlens_k).dropped

    def of_heads(self, first: int, count: int) -> "DroppedMask":
        """The mask of some of its heads."""
        return DroppedMask(self.whole.of_heads(first, count))

    def check(self, q: Tensor, k: Tensor, v: Tensor, inputs: Sequence[Tensor]) -> None:
        """As far as the mask without dropout checks."""
        given = len(self.whole.signature.inputs)
        self.whole.check(q, k, v, [*inputs[:given], *inputs[given + len(DROPOUT_INPUTS) :]])

    def fresh(self) -> "DroppedMask":
        """An equal value with empty caches."""
        return DroppedMask(self.whole.fresh())

    def __deepcopy__(self, memo: object) -> "DroppedMask":
        return self


def drops(dropout_p: object, seed: object) -> bool:
    """Whether a call with these arguments drops pairs. Raises `WrongDropout` for those of other kinds."""
    if isinstance(dropout_p, bool) or not isinstance(dropout_p, int | float) or not 0 <= dropout_p < 1:
        raise AttnError(WrongDropout(what="dropout_p", found=shown(dropout_p), expected="a float from 0, below 1"))
    match seed:
        case Tensor():
            fits = seed.dtype in INTEGER_TYPES and seed.dim() == 0
        case None:
            fits = dropout_p == 0
        case _:
            fits = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    if not fits:
        raise AttnError(WrongDropout(what="seed", found=shown(seed), expected="an integer, beside `dropout_p`"))
    return dropout_p != 0


def dropout_inputs(dropout_p: float, seed: int | Tensor | None, device: torch.device) -> dict[str, Tensor]:
    """The inputs of a call that drops pairs, by name, from what `drops` allows."""
    assert seed is not None
    if not isinstance(seed, Tensor):
        seed = torch.full((), (seed + _WORDS // 2) % _WORDS - _WORDS // 2, dtype=torch.int64, device=device)
    words = seed.to(device, torch.int64)
    below = min(ceil(dropout_p * 2**31), 2**31 - 1) - 1
    return {
        SEED: (words + _WORDS // 2).remainder(_WORDS).sub(_WORDS // 2).to(torch.int32),
        BELOW: torch.full((), below, dtype=torch.int32, device=device),
        FACTOR: torch.full((), 1 / (1 - dropout_p), dtype=torch.float64, device=device),
    }

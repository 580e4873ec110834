"""One checked call, as backends get it, and what its backward pass takes and gives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from torch import Tensor

from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.base.call_cache import CallState


@dataclass(frozen=True, eq=False)
class KernelCall:
    """One checked call."""

    plan: KernelPlan
    module: ModuleType
    inputs: Mapping[str, Tensor]
    """As given, by declared name."""
    values: Mapping[str, Tensor]
    """As generated torch modules take them, by identifier: one value a token as [batch or 1, heads or 1, tokens]."""
    wants_lse: bool
    state: CallState
    """What calls with equal inputs share."""
    layout: tuple[Tensor | None, Tensor | None]
    """Declared positions of queries and keys in laid-out order, [batch or 1, heads or 1, tokens]; None: as declared."""


Attend = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""From q, k and v to the output and the log-sum-exp, all else being settled."""


class Saved(NamedTuple):
    """What a call took and gave, and the gradients of what it gave: all [batch, heads, tokens, dim], or without dim."""

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor
    grad_out: Tensor
    grad_lse: Tensor


class Gradients(NamedTuple):
    """Those of q, k and v, and by identifier those of the values that were wanted."""

    q: Tensor
    k: Tensor
    v: Tensor
    values: Mapping[str, Tensor]

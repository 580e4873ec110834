"""The data types of a call: what backends get for a forward pass, and what a backward pass takes and returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

from torch import Tensor

from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.base.call_cache import CallState
from maskdsl.runtime.base.kept import NOTHING_KEPT, Kept


@dataclass(frozen=True, eq=False)
class KernelCall:
    """One checked call, without q, k and v."""

    plan: KernelPlan
    module: ModuleType
    inputs: Mapping[str, Tensor]
    """The caller's inputs, by declared name."""
    values: Mapping[str, Tensor]
    """Inputs and curves for generated modules, by identifier. Per-token ones are [batch or 1, heads or 1, tokens]."""
    wants_lse: bool
    state: CallState
    """The cache that calls with equal inputs share."""
    layout: tuple[Tensor | None, Tensor | None]
    """Declared positions of queries and keys in laid-out order, [batch or 1, heads or 1, tokens]; None: as declared."""
    kept: Kept = NOTHING_KEPT
    """What calls with the same inputs on the same device share, where these are known not to have changed."""
    permutes: bool = False
    """Whether q, k and v come in declared order and the backend permutes them: see `Backend.permutes`."""


class TokenPositions(NamedTuple):
    """Where the tokens of a call with some queries and keys are, of each batch entry; on the host."""

    starts: tuple[int, ...]
    """The position of the first query."""
    lengths: tuple[int, ...]
    """The number of keys that exist, from the first on."""
    table: Tensor | None
    """int32 [batch, pages]: the page of each stretch of keys, negative where there is none; None: no pages."""


Attend = Callable[..., tuple[Tensor, Tensor | None]]
"""Maps q, k and v to the output and the log-sum-exp; everything else of the call is bound.

Those of a backend that `writes_output` take a tensor `out`, or None: the output is in it if its strides allow that.
"""


class Saved(NamedTuple):
    """Tensors saved for a backward pass, with the gradients of the outputs.

    All are [batch, heads, tokens, dim]; `lse` and `grad_lse` have no dim.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    lse: Tensor
    grad_out: Tensor
    grad_lse: Tensor


class Gradients(NamedTuple):
    """Gradients of q, k and v, and of the wanted values by identifier."""

    q: Tensor
    k: Tensor
    v: Tensor
    values: Mapping[str, Tensor]

"""One checked call, as backends get it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from maskdsl.plan import KernelPlan
from maskdsl.runtime.state import State


@dataclass(frozen=True, eq=False)
class Call:
    """One checked call."""

    plan: KernelPlan
    module: ModuleType
    inputs: Mapping[str, Tensor]
    """As given, by declared name."""
    values: Mapping[str, Tensor]
    """As generated torch modules take them, by identifier: one value a token as [batch or 1, heads or 1, tokens]."""
    wants_lse: bool
    state: State
    """What calls with equal inputs share."""
    layout: tuple[Tensor | None, Tensor | None]
    """Declared positions of queries and keys in laid-out order, [batch or 1, heads or 1, tokens]; None: as declared."""

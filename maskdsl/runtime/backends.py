"""What a backend is, and which there are. `Attention` checks and lays out; a backend emits a module and runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from maskdsl.emit.reference import emit_reference
from maskdsl.plan import KernelPlan

if TYPE_CHECKING:
    from maskdsl.runtime.attention import Attention


@dataclass(frozen=True, eq=False)
class Call:
    """One checked call."""

    attention: "Attention"
    module: ModuleType
    inputs: Mapping[str, Tensor]
    """As given, by declared name."""
    values: Mapping[str, Tensor]
    """As generated torch modules take them, by identifier: one value a token as [batch or 1, heads or 1, tokens]."""
    wants_lse: bool


class Backend(Protocol):
    """One way to compute. Stateless: an instance is shared by all."""

    name: str
    has_backward: bool
    in_layout: bool
    """Takes and gives tensors in laid-out order; otherwise in declared order."""

    def emit(self, plan: KernelPlan) -> str:
        """The source text of the module."""

    def run(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output like q, and the log-sum-exp (None unless wanted)."""


class Reference:
    """Dense torch."""

    name = "reference"
    has_backward = True
    in_layout = False

    def emit(self, plan: KernelPlan) -> str:
        return emit_reference(plan)

    def run(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        out, lse = call.module.attention(q, k, v, call.values)
        return out, lse


BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Reference(),)}

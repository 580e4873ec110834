"""What a backend is, and which there are. `Attention` checks and lays out; a backend emits a module and runs it."""

from typing import Protocol

from torch import Tensor

from maskdsl.emit.reference import emit_reference
from maskdsl.plan import KernelPlan
from maskdsl.runtime.call import Call
from maskdsl.runtime.tiled import Tiled
from maskdsl.runtime.triton import Triton, interpreted


class Backend(Protocol):
    """One way to compute. Stateless: an instance is shared by all."""

    name: str
    in_layout: bool
    """Takes and gives tensors in laid-out order; otherwise in declared order."""

    def emit(self, plan: KernelPlan) -> str:
        """The source text of the module."""

    def run(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output like q, and the log-sum-exp (None unless wanted)."""


class Reference:
    """Dense torch."""

    name = "reference"
    in_layout = False

    def emit(self, plan: KernelPlan) -> str:
        return emit_reference(plan)

    def run(self, call: Call, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor | None]:
        out, lse = call.module.attention(q, k, v, call.values)
        return out, lse


def usable_backends() -> tuple[str, ...]:
    """The names of the backends that can compute on the CPU here."""
    return tuple(name for name in BACKENDS if name != "triton" or interpreted())


BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Triton(), Tiled(), Reference())}

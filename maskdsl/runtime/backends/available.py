"""The list of backends, and which one a call uses. The only module that changes when a backend is added."""

from torch import Tensor

from maskdsl.base.arguments import BackendName
from maskdsl.emit.plan import KernelPlan
from maskdsl.runtime.backends.native.native_backend import Native
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.reference_backend import Reference
from maskdsl.runtime.backends.tiled_backend import Tiled
from maskdsl.runtime.backends.triton_backend import Triton

REFERENCE, _TILED = Reference(), Tiled()
BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Triton(), Native(), _TILED, REFERENCE)}
"""By name, in the order in which "auto" prefers them."""
_AUTO = "auto"


def backend_names() -> tuple[str, ...]:
    """The names that `compile` accepts, "auto" first."""
    return _AUTO, *BACKENDS


def usable_backends() -> tuple[BackendName, ...]:
    """The names of the backends that can compute on the CPU here."""
    return tuple(each.name for each in BACKENDS.values() if each.runs_on_cpu())


def computing(name: str, plan: KernelPlan, q: Tensor, v: Tensor) -> Backend:
    """The backend that computes a plan for these tensors: that of this name, or `tiled` in its place.

    For "auto" the first that serves them, else `tiled`.
    """
    if name == _AUTO:
        return next((each for each in BACKENDS.values() if each.serves(plan, q, v)), _TILED)
    backend = BACKENDS[name]
    return backend if backend.computes(plan, q, v) else _TILED


def everywhere(name: str) -> Backend:
    """The backend of this name; for "auto" `tiled`, which serves all tensors."""
    return _TILED if name == _AUTO else BACKENDS[name]

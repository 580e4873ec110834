"""The list of backends, and which one a call uses. The only module that changes when a backend is added."""

from torch import Tensor

from maskdsl.base.arguments import BackendName
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.reference_backend import Reference
from maskdsl.runtime.backends.tiled_backend import Tiled
from maskdsl.runtime.backends.triton_backend import Triton

REFERENCE, _TILED = Reference(), Tiled()
BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Triton(), _TILED, REFERENCE)}
"""By name, in the order in which "auto" prefers them."""
AUTO = "auto"


def backend_names() -> tuple[str, ...]:
    """The names that `compile` accepts, "auto" first."""
    return AUTO, *BACKENDS


def usable_backends() -> tuple[BackendName, ...]:
    """The names of the backends that can compute on the CPU here."""
    return tuple(each.name for each in BACKENDS.values() if each.runs_on_cpu())


def serving(q: Tensor, v: Tensor) -> Backend:
    """The backend that "auto" uses for these tensors: the first that serves them, else `tiled`."""
    return next((each for each in BACKENDS.values() if each.serves(q, v)), _TILED)


def everywhere(name: str) -> Backend:
    """The backend of this name; for "auto" `tiled`, which serves all tensors."""
    return _TILED if name == AUTO else BACKENDS[name]

"""Which backends there are, and which of them a call takes. The only place that has to learn of a new one."""

from torch import Tensor

from maskdsl.base.arguments import BackendName
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.reference_backend import Reference
from maskdsl.runtime.backends.tiled_backend import Tiled
from maskdsl.runtime.backends.triton_backend import Triton

REFERENCE, _TILED = Reference(), Tiled()
BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Triton(), _TILED, REFERENCE)}
"""By name; those that "auto" likes best come first."""
AUTO = "auto"


def backend_names() -> tuple[str, ...]:
    """What a mask can be compiled for."""
    return AUTO, *BACKENDS


def usable_backends() -> tuple[BackendName, ...]:
    """The names of the backends that can compute on the CPU here."""
    return tuple(each.name for each in BACKENDS.values() if each.runs_on_cpu())


def serving(q: Tensor, v: Tensor) -> Backend:
    """What "auto" takes for tensors like these: the first that serves them, or else tiles of torch."""
    return next((each for each in BACKENDS.values() if each.serves(q, v)), _TILED)


def everywhere(name: str) -> Backend:
    """The backend of this name whatever the tensors are: of "auto", the one that computes all."""
    return _TILED if name == AUTO else BACKENDS[name]

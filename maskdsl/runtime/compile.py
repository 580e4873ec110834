"""Mask to `Attention`: picks a backend, makes the plan and the module's text."""

from maskdsl.diagnostics import AttnError, nearest_name
from maskdsl.errors import call as errors
from maskdsl.ir.mask import MaskIR
from maskdsl.plan import make_plan
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends import BACKENDS


def compile_mask(mask: MaskIR, backend: str = "auto") -> Attention:
    """The compiled attention. `"auto"` takes the fastest backend that there is."""
    chosen = "tiled" if backend == "auto" else backend
    if chosen not in BACKENDS:
        names = ", ".join(f'"{name}"' for name in BACKENDS)
        raise AttnError(errors.UnknownBackend(name=backend, backends=names, nearest=nearest_name(backend, BACKENDS)))
    return Attention(make_plan(mask), chosen)

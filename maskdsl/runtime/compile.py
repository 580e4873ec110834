"""Mask to `Attention`: picks a backend, makes the plan and the module's text."""

from maskdsl.diagnostics import AttnError, nearest_name
from maskdsl.errors import call as errors
from maskdsl.ir.mask import MaskIR
from maskdsl.plan import make_plan
from maskdsl.runtime.attention import Attention, Automatic
from maskdsl.runtime.backends import BACKENDS


def compile_mask(mask: MaskIR, backend: str = "auto", tune: bool = False) -> Attention:
    """The compiled attention. `"auto"` takes kernels on a GPU where they serve, and tiles of torch elsewhere."""
    if backend == "auto":
        return Automatic(make_plan(mask, tune=tune))
    if backend not in BACKENDS:
        known = ["auto", *BACKENDS]
        names = ", ".join(f'"{name}"' for name in known)
        raise AttnError(errors.UnknownBackend(name=backend, backends=names, nearest=nearest_name(backend, known)))
    return Attention(make_plan(mask, tune=tune), backend)

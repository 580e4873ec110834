"""Refuses calls in which several processes each hold a part of what an attention takes whole. Imports torch only."""

import sys
from typing import Any

import torch

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.language import heads as errors
from maskdsl.base.source import Span

_DTENSOR = "torch.distributed.tensor"
_CONTEXT_PARALLEL = (
    "torch.distributed.tensor.experimental._context_parallel._attention",
    "torch.distributed.tensor.experimental._attention",  # before torch 2.10
)
"""Private modules: nothing public says whether `context_parallel` is in force. Looked at only if something else has
imported them."""


def distributed_tensor() -> Any:
    """The class of tensors that several processes share; an empty tuple where nothing has imported it."""
    return getattr(sys.modules.get(_DTENSOR), "DTensor", ())


def check_whole(pattern: str, span: Span | None) -> None:
    """Raises inside of torch's `context_parallel`, which cuts tokens and knows how torch's own attention goes on: it is
    replaced by one that gathers the keys of all processes.
    """
    for name in _CONTEXT_PARALLEL:
        module = sys.modules.get(name)
        if module is not None:
            here = torch.nn.functional.scaled_dot_product_attention
            if here in getattr(module, "_replaced_functions", {}):
                raise AttnError(errors.ContextParallel(pattern=pattern, span=span))

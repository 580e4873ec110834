"""Refuses calls in which several processes each hold a part of what an attention takes whole. Imports torch only."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from maskdsl.diagnostics import AttnError, Diagnostic
from maskdsl.errors import heads as errors
from maskdsl.source import Span

DTENSOR = "torch.distributed.tensor"
CONTEXT_PARALLEL = (
    "torch.distributed.tensor.experimental._context_parallel._attention",
    "torch.distributed.tensor.experimental._attention",  # before torch 2.10
)
"""Private modules: nothing public says whether `context_parallel` is in force. Looked at only if something else has
imported them."""


def distributed(tensors: Mapping[str, object]) -> Iterator[Diagnostic]:
    """Arguments that are DTensors."""
    kind: Any = getattr(sys.modules.get(DTENSOR), "DTensor", ())
    for name, tensor in tensors.items():
        if isinstance(tensor, kind):
            yield errors.Distributed(name=name)


def check_whole(pattern: str, span: Span | None) -> None:
    """Raises inside of torch's `context_parallel`, which cuts tokens and knows how torch's own attention goes on."""
    if is_context_parallel():
        raise AttnError(errors.ContextParallel(pattern=pattern, span=span))


def is_context_parallel() -> bool:
    """Whether torch's attention is replaced by the one that gathers the keys of all processes."""
    here = torch.nn.functional.scaled_dot_product_attention
    known = (getattr(sys.modules.get(name), "_replaced_functions", {}) for name in CONTEXT_PARALLEL)
    return any(here in replaced for replaced in known)

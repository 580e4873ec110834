"""Refuses calls whose tensors are sharded over processes: an attention needs them whole. Imports torch only."""

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
"""Private modules: no public function says whether `context_parallel` is active. Read only if already imported."""


def distributed_tensor() -> Any:
    """torch's `DTensor` class; an empty tuple, for `isinstance`, where nothing has imported it."""
    return getattr(sys.modules.get(_DTENSOR), "DTensor", ())


def check_whole(pattern: str, span: Span | None) -> None:
    """Raises `ContextParallel` inside torch's `context_parallel`, which shards tokens over processes.

    There torch replaces its own attention by one that gathers the keys of all processes; ours would see one shard.
    """
    for name in _CONTEXT_PARALLEL:
        module = sys.modules.get(name)
        if module is not None:
            here = torch.nn.functional.scaled_dot_product_attention
            if here in getattr(module, "_replaced_functions", {}):
                raise AttnError(errors.ContextParallel(pattern=pattern, span=span))

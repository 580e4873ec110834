"""Which of a model's heads are in this process, where tensor parallelism shares them out. Imports torch only."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from maskdsl import Heads


def heads_here(module: nn.Module, heads: int, key_heads: int) -> Heads:
    """The heads of an attention whose layer has so many query and key heads in this process.

    Projections that are DTensors say which: each process has the heads that follow those of the one before. Where
    heads are fewer than the model's and nothing says which, a pattern that reads `head` is refused at its call, as it
    is bound for one.
    """
    config = getattr(module, "config", None)
    whole = getattr(config, "num_attention_heads", heads)
    if heads == whole:
        return Heads(heads)
    position = _position_of(module)
    if position is not None and heads * position[1] == whole:
        shared = getattr(config, "num_key_value_heads", None) or key_heads * position[1]
        return Heads(whole, shared, heads * position[0], heads)
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return Heads(1) if several and torch.distributed.get_world_size() > 1 and whole % heads == 0 else Heads(heads)


def _position_of(module: nn.Module) -> tuple[int, int] | None:
    """This process' number among those that share the parameters, and how many they are; None if nobody shares."""
    library: Any = sys.modules.get("torch.distributed.tensor")
    for parameter in module.parameters() if library is not None else ():
        if isinstance(parameter, library.DTensor):
            for axis, placement in enumerate(parameter.placements):
                if isinstance(placement, library.Shard):
                    mesh = parameter.device_mesh
                    return mesh.get_local_rank(axis), mesh.size(axis)
    return None

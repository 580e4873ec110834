"""The heads of a layer that this process has, under tensor parallelism. Imports torch only."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from maskdsl import Heads


def heads_here(module: nn.Module, heads: int, key_heads: int) -> Heads:
    """The heads of an attention that has `heads` query heads and `key_heads` key heads in this process.

    If its projections are sharded DTensors, each process has consecutive heads, in the order of the mesh. If there are
    fewer heads than the model's and nothing says which, the result is one head: a pattern that reads `head` then
    raises at its call.
    """
    config = getattr(module, "config", None)
    whole = getattr(config, "num_attention_heads", heads)
    here = Heads(heads, key_heads)
    if heads == whole:
        return here
    shard = _shard_of(module)
    if shard is not None and heads * shard[1] == whole:
        all_key_heads = getattr(config, "num_key_value_heads", None) or key_heads * shard[1]
        return Heads(whole, all_key_heads, heads * shard[0], heads)
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return Heads(1) if several and torch.distributed.get_world_size() > 1 and whole % heads == 0 else here


def heads_before_call(module: nn.Module) -> Heads:
    """The same, by the configuration, of an attention that is not called yet."""
    whole = getattr(getattr(module, "config", None), "num_attention_heads", None) or 1
    shared, (_, count) = int(getattr(module, "num_key_value_groups", 1)), _shard_of(module) or (0, 1)
    return heads_here(module, whole // count, max(1, whole // shared // count))


def _shard_of(module: nn.Module) -> tuple[int, int] | None:
    """This process's index among those that share the parameters, and their number; None if parameters are whole."""
    library: Any = sys.modules.get("torch.distributed.tensor")
    for parameter in module.parameters() if library is not None else ():
        if isinstance(parameter, library.DTensor):
            for axis, placement in enumerate(parameter.placements):
                if isinstance(placement, library.Shard):
                    mesh = parameter.device_mesh
                    return mesh.get_local_rank(axis), mesh.size(axis)
    return None

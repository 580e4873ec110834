"""The heads of a layer that this process has, under tensor parallelism. Imports torch only."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn

from maskdsl import Heads


def heads_here(module: nn.Module, heads: int, key_heads: int, fully_sharded: bool = False) -> Heads:
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
    shard = _shard_of(module, fully_sharded)
    if shard is not None and heads * shard[1] == whole:
        all_key_heads = getattr(config, "num_key_value_heads", None) or key_heads * shard[1]
        return Heads(whole, all_key_heads, heads * shard[0], heads)
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return Heads(1) if several and torch.distributed.get_world_size() > 1 and whole % heads == 0 else here


def heads_before_call(module: nn.Module, fully_sharded: bool) -> Heads:
    """The same, by the configuration, of an attention that is not called yet.

    `fully_sharded` says that `fully_shard` shards its parameters, which are whole in a call, beside tensor parallelism.
    """
    whole = getattr(getattr(module, "config", None), "num_attention_heads", None) or 1
    shard = _shard_of(module, fully_sharded)
    shared, (_, count) = int(getattr(module, "num_key_value_groups", 1)), shard or (0, 1)
    return heads_here(module, whole // count, max(1, whole // shared // count), fully_sharded)


def is_fully_sharded(module: nn.Module) -> bool:
    """Whether `fully_shard` was called for this module."""
    library: Any = sys.modules.get("torch.distributed.fsdp")
    return library is not None and isinstance(module, library.FSDPModule)


def _shard_of(module: nn.Module, fully_sharded: bool) -> tuple[int, int] | None:
    """This process's index among those that share the parameters, and their number; None if parameters are whole.

    The first axis of a mesh that shards them is not counted if they are `fully_sharded`.
    """
    library: Any = sys.modules.get("torch.distributed.tensor")
    for parameter in module.parameters() if library is not None else ():
        if isinstance(parameter, library.DTensor):
            axes = [axis for axis, each in enumerate(parameter.placements) if not isinstance(each, library.Replicate)]
            for axis in axes[1:] if fully_sharded else axes:
                if isinstance(parameter.placements[axis], library.Shard):
                    mesh = parameter.device_mesh
                    return mesh.get_local_rank(axis), mesh.size(axis)
    return None

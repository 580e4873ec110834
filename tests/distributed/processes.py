"""Runs a function on several gloo processes, which are forked from one that has imported what they need."""

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing

_IMPORTED = ["torch.distributed", "maskdsl.sharding.sharded_tokens", "transformers.models.llama.modeling_llama"]
"""What takes seconds to import, and none where it is not installed."""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _work(rank: int, world: int, port: int, run: Callable[..., Any], arguments: tuple[Any, ...], results: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    try:
        results[rank] = run(*arguments)
        dist.barrier()
    finally:
        dist.destroy_process_group()


def on_processes(world: int, run: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `run(*arguments)` returns on each of `world` processes. Raises what one of them raises."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with context.Manager() as manager:
        results = manager.dict()
        given = world, _free_port(), run, arguments, results
        multiprocessing.start_processes(_work, given, nprocs=world, start_method="forkserver")
        return [results[rank] for rank in range(world)]

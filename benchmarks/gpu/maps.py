"""Block maps of documents that are known at the call only: ours, and compiled `create_block_mask`."""

from collections.abc import Iterator
from functools import partial

import torch
from contact.child import Keep
from measures import DOCUMENT, documents

from gpu.contest import Record
from gpu.patterns import Inputs, Size, named
from gpu.peers import block_mask_of, our_backend
from gpu.timing import Step, Timer, device
from maskdsl.analysis.cost.tile_table import KernelName, TileChoice
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends.triton_backend import Launch

DIM = 128
TILES = TileChoice(128, 128, 4, 1)
"""Tiles as large as those of FlexAttention."""
ROUNDS = 8
"""So often the documents change. The first two are not counted."""


def step(keep: Keep, length: int, heads: int) -> Record:
    """The step of block maps, on the GPU."""
    return measure(Size(length, heads, device()), Timer(device(), 0))


def measure(size: Size, timer: Timer) -> Record:
    """Seconds of each from new documents on the device to a map there, and how many times as fast ours is."""
    entry = named("packed documents")
    inputs = entry.inputs(size)
    attention = entry.mask(size).compile(our_backend(size.device))
    ours = timer.wall(rounds(size, inputs, builder(attention, size, inputs)))
    flex = timer.wall(rounds(size, inputs, partial(block_mask_of, entry.mask_mod(size, inputs), size)))
    return {"length": size.length, "our_seconds": ours, "flex_seconds": flex, "ratio": flex / ours}


def rounds(size: Size, inputs: Inputs, step: Step) -> Iterator[Step]:
    """The step, each time with other documents in place of those of the inputs."""
    for seed in range(1, ROUNDS + 1):
        fresh = documents(size.length, min(DOCUMENT, size.length // 4), seed)
        inputs["document"].copy_(torch.as_tensor(fresh))
        if seed <= 2:
            step()
        else:
            yield step


def builder(attention: Attention, size: Size, inputs: Inputs) -> Step:
    """What a call does before its kernel starts."""
    if attention.backend != "triton":
        return partial(attention.tiles, **inputs)
    q = torch.empty(1, size.heads, size.length, DIM, dtype=torch.bfloat16, device=size.device)
    kernel, given = attention._compiled.default_kernel, [inputs[name] for name in attention.inputs]
    return lambda: Launch(kernel.call(given, q, False)).tiles(TILES, q, q, KernelName.FORWARD)

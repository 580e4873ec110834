"""Block maps of documents that are known at the call only: ours, and compiled `create_block_mask`."""

from collections.abc import Iterator
from functools import partial

import torch
from gpu_contest import Record, outcome, own_backend
from gpu_patterns import Inputs, Size, named
from gpu_timing import Step, Timer
from measures import DOCUMENT, documents
from torch.nn.attention.flex_attention import create_block_mask

from maskdsl.analysis.cost.tile_table import TileChoice
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends.triton_backend import Launch

DIM = 128
TILES = TileChoice(128, 128, 4, 1)
"""Tiles as large as those of FlexAttention."""
ROUNDS = 8
"""So often the documents change. The first two are not counted."""


def measure(size: Size, timer: Timer) -> Record:
    """Seconds of each from new documents on the device to a map there, and how many times as fast ours is."""
    return outcome(partial(compare, size, timer))


def compare(size: Size, timer: Timer) -> Record:
    entry = named("packed documents")
    inputs = entry.inputs(size)
    attention = entry.mask(size).compile(own_backend(size.device))
    own = timer.wall(rounds(size, inputs, builder(attention, size, inputs)))
    create = torch.compile(create_block_mask) if size.device.type == "cuda" else create_block_mask
    mask_mod = entry.mask_mod(size, inputs)
    flex = partial(create, mask_mod, None, None, size.length, size.length, device=size.device)
    other = timer.wall(rounds(size, inputs, flex))
    return {"length": size.length, "seconds": own, "flex_seconds": other, "ratio": other / own}


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
    return lambda: Launch(kernel.call(given, q, False)).tiles(TILES, q, q, "row")

"""Decoding one token over a long cache: a window of it, against all of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from gpu_contest import FLASH, FLEX, OURS, Compute, Record, compiled_flex, outcome, own_backend
from gpu_patterns import EXAMPLES
from gpu_reference import checked, outputs
from gpu_timing import Timer
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import maskdsl


@dataclass(frozen=True)
class Cache:
    """Keys and values of `length` tokens, whose last one asks."""

    length: int
    window: int
    batch: int
    heads: int
    key_heads: int
    dim: int
    dtype: torch.dtype
    device: torch.device

    def tensors(self) -> list[Tensor]:
        """q, k and v."""
        generator = torch.Generator(self.device).manual_seed(0)
        shapes = (self.heads, 1), (self.key_heads, self.length), (self.key_heads, self.length)
        return [
            torch.randn(self.batch, *shape, self.dim, dtype=self.dtype, device=self.device, generator=generator)
            for shape in shapes
        ]

    @property
    def windowed(self) -> maskdsl.Mask:
        pattern = maskdsl.load(EXAMPLES / "language/sliding_window.attn")["sliding_window"]
        return pattern.bind(n=self.length, size=self.window, heads=self.heads)

    @property
    def dense(self) -> maskdsl.Mask:
        pattern = maskdsl.load(EXAMPLES / "language/causal.attn")["causal_dense"]
        return pattern.bind(n=self.length, heads=self.heads)


def measure(cache: Cache, timer: Timer) -> Record:
    """Errors and seconds of everybody, over the window and over everything, and how many times as fast our window is as
    the fastest of those over everything.
    """
    return outcome(partial(compare, cache, timer))


def compare(cache: Cache, timer: Timer) -> Record:
    tensors = cache.tensors()
    found: Record = {"window": {}, "dense": {}}
    for mask, kind, contenders in (cache.windowed, "window", windowed), (cache.dense, "dense", dense):
        position = cache.batch - 1, cache.heads - 1
        row = outputs(mask.ir, position, np.array([0]), *tensors, {})
        for name, prepare in contenders(cache):
            found[kind][name] = outcome(partial(compete, prepare, tensors, row, timer))
    own = found["window"][OURS].get("seconds")
    others = [each["seconds"] for each in found["dense"].values() if "seconds" in each]
    ratio = min(others) / own if own and others else None
    return {
        "length": cache.length,
        "batch": cache.batch,
        "heads": [cache.heads, cache.key_heads],
        **found,
        "ratio": ratio,
    }


def compete(prepare: Callable[[], Compute], tensors: list[Tensor], row: np.ndarray, timer: Timer) -> Record:
    """One contender: right first, then fast. `row` is the output of the last head of the last entry."""
    with torch.no_grad():
        compute = prepare()
        expected = torch.as_tensor(row, device=timer.device)
        error = checked("the output", compute(*tensors)[-1, -1], expected, expected.norm())
        return {"error": error, "seconds": timer.median(partial(compute, *tensors))}


def windowed(cache: Cache) -> Iterator[tuple[str, Callable[[], Compute]]]:
    yield OURS, partial(ours, cache, cache.windowed)
    yield FLEX, partial(flex, cache)


def dense(cache: Cache) -> Iterator[tuple[str, Callable[[], Compute]]]:
    yield OURS, partial(ours, cache, cache.dense)
    yield FLASH, lambda: flash


def ours(cache: Cache, mask: maskdsl.Mask) -> Compute:
    attention = mask.compile(own_backend(cache.device))
    return partial(attention, query_start=cache.length - 1)  # type: ignore[return-value]


def flex(cache: Cache) -> Compute:
    torch._dynamo.reset()
    create, compute = compiled_flex() if cache.device.type == "cuda" else (create_block_mask, flex_attention)
    first = cache.length - cache.window
    block_mask = create(lambda b, h, q, k: k >= first, None, None, 1, cache.length, device=cache.device)
    return partial(compute, block_mask=block_mask, enable_gqa=True)


def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return scaled_dot_product_attention(q, k, v, enable_gqa=True)

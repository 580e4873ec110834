"""Decoding one token over a long cache: a window of it, against all of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from contact.child import Keep
from contact.names import FLEX, OURS
from torch import Tensor

import maskdsl
from gpu.contest import Record, outcome
from gpu.exact import checked
from gpu.patterns import EXAMPLES, Size
from gpu.peers import SDPA, Compute, block_mask_of, flex_with, our_backend, sdpa
from gpu.timing import Step, Timer, device

KINDS = ("window", "dense")


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


def step(keep: Keep, seconds: float, length: int, window: int, batch: int) -> Record:
    """The step of decoding on the GPU: 32 query heads share 8 key heads of 128 dims, in bfloat16."""
    cache = Cache(length, window, batch, 32, 8, 128, torch.bfloat16, device())
    return measure(cache, Timer(device(), seconds))


@torch.no_grad()
def measure(cache: Cache, timer: Timer) -> Record:
    """Errors and seconds of everybody, over the window and over everything, and how many times as fast our window is as
    the fastest of those over everything.
    """
    tensors = cache.tensors()
    record: Record = {kind: {} for kind in KINDS}
    steps: dict[tuple[str, str], Step] = {}
    for kind in KINDS:
        right = last_output(tensors, cache.window if kind == "window" else cache.length)
        for name, prepare in contenders(cache, kind).items():
            record[kind][name] = outcome(partial(enter, prepare, tensors, right, steps, (kind, name)))
    for (kind, name), seconds in timer.in_turn(steps).items():
        record[kind][name]["seconds"] = seconds
    ours = record["window"][OURS].get("seconds")
    others = [each["seconds"] for each in record["dense"].values() if "seconds" in each]
    ratio = min(others) / ours if ours and others else None
    shape = {"length": cache.length, "batch": cache.batch, "heads": [cache.heads, cache.key_heads]}
    return {**shape, **record, "ratio": ratio}


def enter(
    prepare: Callable[[], Compute],
    tensors: list[Tensor],
    right: Tensor,
    steps: dict[tuple[str, str], Step],
    key: tuple[str, str],
) -> Record:
    """One contender, which is among the steps if it is right; `right` is the output of the last head and entry."""
    compute = prepare()
    error = checked("the output", compute(*tensors)[-1, -1], right, right.norm())
    steps[key] = partial(compute, *tensors)
    return {"error": error}


def last_output(tensors: list[Tensor], window: int) -> Tensor:
    """Of the last head of the last entry, [1, dim] in float64, over the last `window` keys."""
    q, k, v = (x[-1, -1].double() for x in tensors)
    scores = q @ k[-window:].mT * q.shape[-1] ** -0.5
    return scores.softmax(-1) @ v[-window:]


def contenders(cache: Cache, kind: str) -> dict[str, Callable[[], Compute]]:
    if kind == "window":
        return {OURS: partial(ours, cache, cache.windowed), FLEX: partial(flex, cache, cache.length - cache.window)}
    whole = {name: partial(sdpa, backend, False, True) for name, backend in SDPA.items()}
    return {OURS: partial(ours, cache, cache.dense), FLEX: partial(flex, cache, 0), **whole}


def ours(cache: Cache, mask: maskdsl.Mask) -> Compute:
    attention = mask.compile(our_backend(cache.device))
    return partial(attention, query_start=cache.length - 1)  # type: ignore[return-value]


def flex(cache: Cache, first: int) -> Compute:
    """Over the keys from `first` on; block masks are for one query."""
    size = Size(cache.length, cache.heads, cache.device)
    mask = None if first == 0 else block_mask_of(lambda b, h, q, k: k >= first, size, queries=1)
    return flex_with(mask, None, None, cache.device)

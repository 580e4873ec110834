"""What a warm call costs the host, without a GPU: `python benchmarks/host.py [--quick]` prints a JSON object.

Kernels are compiled for an H100 and launched into nothing, so that all that is left is the way to a launch. It is held
against a bare operator of torch that makes one launch, called in turn; times are processor time, in microseconds, the
10th of 100 measurements, since other work on the machine only ever adds.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from triton import language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime import driver

import maskdsl
from maskdsl.analysis.cost.tile_table import Architecture
from maskdsl.runtime.backends import tile_choice, triton_backend

PATTERNS = {
    "causal": "pattern causal_layer(n) { space tokens[n] attend causal }",
    "window": "pattern window_layer(n) { space tokens[n] attend window(33) }",
    "longformer": "pattern longformer_layer(n) { space tokens[n] attend window(33) or q < 4 or k < 4 }",
}
PACKED = "pattern packed_layer(n) { space tokens[n] input document: int[tokens] attend causal and same(document) }"
LENGTH, HEADS, DIM = 128, 2, 64
ROUNDS, CALLS = 500, 5


class Driver:
    """Stands in for that of a GPU."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def launched_into_nothing() -> Iterator[None]:
    """Kernels on tensors of the CPU are compiled as on an H100, and never run."""
    changes: list[tuple[Any, str, Any]] = [
        (driver, "_active", Driver()),
        (CompiledKernel, "run", lambda *_: None),
        (CompiledKernel, "_init_handles", lambda _: None),
        (CompiledKernel, "launch_metadata", lambda *_: None),
        (CompiledKernel, "n_spills", 0),
        (tile_choice, "largest_shared_memory", lambda device: 227 * 1024),
        (tile_choice, "architecture", lambda device: Architecture.SM90),
        (triton_backend, "architecture", lambda device: Architecture.SM90),
        (triton_backend, "interpreted", lambda: True),
    ]
    with ExitStack() as stack:
        for owner, name, value in changes:
            stack.enter_context(patch.object(owner, name, value, create=True))
        yield


@triton.jit
def bare_kernel(q, k, v, out, lse, a, b, c, d, e, f, g, h, i, j, l, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # noqa: E741
    """As many arguments as a plain attention takes."""
    tl.store(out + tl.program_id(0), tl.load(q) + a)


def bare(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    out, lse = torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)
    strides = *q.stride()[:3], *k.stride()[:3], *v.stride()[:3]
    bare_kernel[(4, 1, 1)](q, k, v, out, lse, *strides, LENGTH, LENGTH, ROWS=64, COLUMNS=64, num_warps=4, num_stages=2)
    return out, lse


def bare_operator() -> Callable[..., Any]:
    library = torch.library.Library("maskdsl_bench", "DEF")  # type: ignore[no-untyped-call]
    library.define("bare(Tensor q, Tensor k, Tensor v) -> (Tensor, Tensor)")
    library.impl("bare", bare, "CompositeExplicitAutograd")
    operator = torch.ops.maskdsl_bench.bare.default
    return lambda *tensors, library=library: operator(*tensors)  # an operator is gone with its library


def attentions() -> dict[str, Callable[..., Any]]:
    """Compiled for the Triton backend."""
    masks = {name: maskdsl.parse(text)[f"{name}_layer"].bind(n=LENGTH, heads=HEADS) for name, text in PATTERNS.items()}
    return {name: mask.compile("triton") for name, mask in masks.items()}


def packed_calls(q: Tensor, k: Tensor, v: Tensor) -> dict[str, Callable[[], object]]:
    """Calls with the same documents: as given to each, and prepared once."""
    attention = maskdsl.parse(PACKED)["packed_layer"].bind(n=LENGTH, heads=HEADS).compile("triton")
    document = torch.arange(LENGTH) // 50
    attend = attention.prepare(document=document)
    return {"packed": partial(attention, q, k, v, document=document), "packed, prepared": partial(attend, q, k, v)}


def in_turn(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Microseconds of a call of each."""
    for call in calls.values():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.thread_time_ns()
            for _ in range(CALLS):
                call()
            taken[name].append((time.thread_time_ns() - began) / 1e3 / CALLS)
    return {name: sorted(times)[len(times) // 10] for name, times in taken.items()}


def measured(rounds: int) -> dict[str, dict[str, float]]:
    """By name: the time of a call, and how many times as long as the bare operator it takes."""
    torch.set_num_threads(1)
    q, k, v = (torch.randn(1, HEADS, LENGTH, DIM, dtype=torch.float16) for _ in range(3))
    with launched_into_nothing(), torch.no_grad():
        operators = {"bare": bare_operator(), **attentions()}
        calls = {name: partial(call, q, k, v) for name, call in operators.items()} | packed_calls(q, k, v)
        times = in_turn(calls, rounds)
    return {name: {"us": round(us, 1), "ratio": round(us / times["bare"], 2)} for name, us in times.items()}


if __name__ == "__main__":
    print(json.dumps(measured(10 if "--quick" in sys.argv else ROUNDS), indent=1))

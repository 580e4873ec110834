"""What is looked at first on a GPU: rates, one pattern against float64, sanitizers, and tests."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from contact.child import Keep, said
from contact.runner import FAILED, Record

import maskdsl
from gpu.contest import compile_ahead
from gpu.exact import exact
from gpu.patterns import EXAMPLES, Size, named
from gpu.peers import Case, our_backend, ours
from gpu.timing import Timer, device, synchronize
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs

ROOT = Path(__file__).parents[2]
COPIED, SIDE = 2**30, 8192
"""Bytes that are copied, and rows and columns of the matrices that are multiplied, for rates."""
MOST_WORKERS = 16


def rates(keep: Keep) -> Record:
    """Bytes a second of a copy, read and written, and TFLOP/s of a large product in bfloat16."""
    timer = Timer(device(), 0.3)
    source = torch.empty(COPIED, dtype=torch.int8, device=timer.device)
    target = torch.empty_like(source)
    keep({"copy_bytes": 2 * COPIED / timer.median(lambda: target.copy_(source))})
    one, other = (torch.randn(SIDE, SIDE, dtype=torch.bfloat16, device=timer.device) for _ in range(2))
    return {"product_tflops": 2 * SIDE**3 / timer.median(lambda: one @ other) / 1e12}


def smoke(keep: Keep, length: int, dim: int) -> Record:
    """Causal attention in bfloat16, forward and then backward, against float64. Raises `Wrong`."""
    case = Case(named("causal"), Size(length, 2, device()), 1, dim, torch.bfloat16)
    tensors, toward = case.tensors()
    right = exact(case.entry, case.size, tensors, toward, {})
    out = ours(case, {})(*tensors)
    keep({"errors": {"output": right.check_output(out)}})
    gradients = right.check_gradients(torch.autograd.grad(out, tensors, toward))
    return {"errors": {"output": right.check_output(out), **gradients}}


# Under a tool

CALLS: dict[str, tuple[dict[str, Any], ...]] = {
    "memcheck": (
        {"file": "language/causal", "name": "causal_dense", "n": 1, "dim": 64},
        {"file": "language/causal", "name": "causal_dense", "n": 129, "dim": 128},
        {"file": "language/causal", "name": "causal_dense", "n": 1741, "dim": 40},
        {"file": "language/longformer", "name": "longformer", "n": 1741, "dim": 64},
        {"file": "language/packed", "name": "packed", "n": 129, "dim": 64},
        {"file": "language/packed", "name": "packed", "n": 1741, "dim": 192, "heads": 6, "key_heads": 2},
        {"file": "routing/moba", "name": "moba", "n": 129, "dim": 64},
        {"file": "vision/neighborhood", "name": "na2", "h": 37, "w": 45, "dim": 128},
    ),
    "racecheck": (
        {"file": "language/causal", "name": "causal_dense", "n": 300, "dim": 64},
        {"file": "language/causal", "name": "causal_dense", "n": 300, "dim": 128},
        {"file": "language/packed", "name": "packed", "n": 300, "dim": 64},
    ),
    "descriptors": (
        {"file": "language/causal", "name": "causal_dense", "n": 1, "dim": 128},
        {"file": "language/causal", "name": "causal_dense", "n": 1741, "dim": 128},
        {"file": "language/longformer", "name": "longformer", "n": 1741, "dim": 256},
        {"file": "language/packed", "name": "packed", "n": 129, "dim": 128, "heads": 6, "key_heads": 2},
        {"file": "vision/neighborhood", "name": "na2", "h": 37, "w": 45, "dim": 64},
    ),
}
"""By tool, or by what they try: small calls, with the awkward lengths of the tests."""


def small_calls(keep: Keep) -> Record:
    """All of them side by side without a sanitizer, which finds their kernels compiled afterwards."""
    return side_by_side(keep, both_passes_of, [call for calls in CALLS.values() for call in calls])


def sanitized(keep: Keep, calls: str) -> Record:
    """Forward and backward passes of small calls, and a decode from pages, for a sanitizer to watch."""
    for number, call in enumerate(CALLS[calls]):
        both_passes_of(call)
        keep({"calls": number + 1})
    decode_from_pages()
    return {"pages": True}


def both_passes_of(call: dict[str, Any]) -> None:
    both_passes(**call)
    synchronize(device())


def both_passes(file: str, name: str, dim: int, heads: int = 2, key_heads: int = 1, **lengths: int) -> None:
    mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=heads, **lengths)
    arrays = synthetic_inputs(mask.ir, batch=1, dim=dim)
    inputs = {key: torch.as_tensor(array, device=device()) for key, array in arrays.items()}
    shapes = (heads, mask.query_length), (key_heads, mask.key_length), (key_heads, mask.key_length)
    tensors = [torch.randn(1, *each, dim, dtype=torch.bfloat16, device=device()).requires_grad_() for each in shapes]
    out = mask.compile(our_backend(device()))(*tensors, **inputs)
    torch.autograd.grad(out, tensors, torch.randn_like(out))


def profiled(keep: Keep, length: int, dim: int) -> Record:
    """One forward and one backward pass of causal attention, for a profiler to watch."""
    case = Case(named("causal"), Size(length, 8, device()), 1, dim, torch.bfloat16)
    tensors, toward = case.tensors()
    torch.autograd.grad(ours(case, {})(*tensors), tensors, toward)
    synchronize(device())
    return {"length": length, "dim": dim}


def decode_from_pages(length: int = 129, page: int = 16) -> None:
    pattern = maskdsl.load(EXAMPLES / "language/streaming.attn")["streaming"]
    attention = pattern.bind(n=length, size=19, sinks=4, heads=4).compile(our_backend(device()))
    pages = -(-length // page)
    keys, values = torch.randn(2, 2 * pages, 2, page, 64, dtype=torch.bfloat16, device=device())
    q = torch.randn(2, 4, 1, 64, dtype=torch.bfloat16, device=device())
    lengths = torch.tensor([length, length // 2], device=device())
    table = torch.randperm(2 * pages, device=device()).view(2, pages)
    with torch.no_grad():
        attention(q, keys, values, query_start=lengths - 1, key_lengths=lengths, page_table=table, page_size=page)


# Tests

RAN = re.compile(r"\] (PASSED|FAILED|ERROR|SKIPPED) (tests/.+)")


def tests(keep: Keep, files: list[str], expression: str = "", workers: int = MOST_WORKERS) -> Record:
    """Tests of `tests/gpu` side by side. Those that a killed worker leaves undone are run by another."""
    count = min(workers, os.cpu_count() or 1)
    command = [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", "-n", str(count)]
    command += [*(f"tests/gpu/{name}.py" for name in files), *(["-k", expression] if expression else [])]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    names: list[str] = []
    for line in process.stdout:
        print(line, end="")
        ran = RAN.search(line.rstrip())
        if ran is None:
            continue
        counts["failed" if ran[1] == "ERROR" else ran[1].lower()] += 1
        names += [ran[2]] if ran[1] in ("FAILED", "ERROR") else []
        keep({**counts, "not passed": names})
    status = process.wait()
    if status:
        return {"outcome": FAILED, "why": f"pytest ended with {status}"}
    return dict(counts)


# Side by side


def compile_rows(keep: Keep, rows: list[dict[str, Any]]) -> Record:
    """Compiles what rows need, which leaves kernels on disk."""
    return side_by_side(keep, compile_ahead, rows)


def side_by_side(keep: Keep, function: Callable[[dict[str, Any]], None], given: list[dict[str, Any]]) -> Record:
    """Calls a function in processes of their own, all of them whatever becomes of one."""
    keep({"of": len(given), "ended": 0})
    errors: list[str] = []
    with ProcessPoolExecutor(min(MOST_WORKERS, os.cpu_count() or 1), get_context("spawn")) as pool:
        for number, future in enumerate(as_completed([pool.submit(function, each) for each in given])):
            error = future.exception()
            errors += [] if error is None else [said(error)]
            keep({"ended": number + 1, "errors": errors})
    return {"outcome": FAILED, "why": errors[0]} if errors else {}

"""Calls one after the other in one process, each held against the same call alone in a new one.

What is kept between calls must not show: not the number of heads, the lengths, the types or the mode of an earlier
call. `python -m tests.properties.sequences --seed 0 --count 2000` says which calls differ, and behind which others.

Processes are forked from one that has imported all there is to import and computed nothing.
"""

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from threading import Barrier
from typing import Any

import torch
import torch.fx.experimental.symbolic_shapes  # what `torch.autograd.grad` imports when it is called
from torch import Tensor

import maskdsl
import maskdsl.runtime.compile
from maskdsl.ir.mask import DimensionKind

LENGTH = 40
"""Of the patterns that are bound: calls of a part have fewer tokens."""
DIM = 8
EACH = 25
"""Steps of one sequence."""
ROOM = 1e-6
BODIES = {
    "local": "attend causal and backward(9)",
    "by head": "attend causal and backward(7) if head < heads // 2 else causal",
    "document": "input document: int[batch, t] attend causal and same(document)",
    "numbered": "attend causal where random(3, batch, head, q, k) % 2 == 0 attend all -> all where q == k",
    "shuffled": "coord z = shuffle(i, 7) attend window(11, axis = z) order by z",
    "ordered": "input document: int[batch, t] attend causal and same(document) order by document",
    "sloped": "input slope: float[heads] input shift: float[batch, t]"
    " attend causal score s - slope[head] * float(q - k) + q.shift weight 1.0 + k.shift ** 2",
    "table": "input gate: bool[heads, 5, 5]"
    " attend causal where gate[head, q // 8, k // 8] attend all -> all where q == k",
    "routed": "coord chunk = i // 8 route past = topk(2, dot(q, mean(k, chunk))) where k.chunk < q.chunk"
    " attend causal and (past or same(chunk))",
    "mass": "coord chunk = i // 8 route past = topp(0.6, dot(q, mean(k, chunk))) where k.chunk < q.chunk"
    " attend causal and (past or same(chunk))",
}
PATTERNS = {name: maskdsl.parse(f"pattern p(n) {{ space t[n] {body} }}")["p"] for name, body in BODIES.items()}
FREE = ("local", "by head", "document", "sloped", "shuffled")
"""Those that follow the lengths of their tensors too, and are compiled by torch."""
KINDS = ("whole", "ordered", "follow", "chunk", "pages", "padded", "varlen")
MODES = ("grad", "grad", "none", "inference", "autocast", "device", "dtype", "compile")


@dataclass(frozen=True)
class Call:
    """All that decides what comes out."""

    pattern: str
    kind: str
    mode: str
    backend: str
    batch: int
    heads: int
    key_heads: int
    length: int
    """Of queries, or of the longest sequence."""
    dtype: torch.dtype
    seed: int

    @staticmethod
    def drawn(random: Random, theme: "Theme") -> "Call":
        pattern, heads = random.choice(theme.patterns), theme.heads
        kind, mode = random.choice(KINDS), random.choice(MODES)
        if kind == "follow" and pattern not in FREE:
            kind = "padded"
        if mode == "compile" and (pattern not in FREE or random.random() < 0.8):
            mode = "grad"
        return Call(
            *(pattern, kind, mode, theme.backend, random.choice([1, 2, 3]), heads),
            *(random.choice([n for n in (1, 2, 4) if n <= heads]), random.choice([1, 5, 17, LENGTH])),
            *(random.choice([torch.float32, torch.float64, torch.bfloat16]), random.randrange(10**6)),
        )

    @property
    def trains(self) -> bool:
        return self.mode in ("grad", "autocast", "dtype", "compile")


# One call


@cache
def attention_of(name: str, heads: int, backend: str, follows: bool) -> Any:
    """One for all calls of a process."""
    if follows:
        return PATTERNS[name].compile(backend, follow="n", heads=heads)
    return PATTERNS[name].bind(n=LENGTH, heads=heads).compile(backend)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def mode_of(name: str) -> AbstractContextManager[Any]:
    match name:
        case "none":
            return torch.no_grad()
        case "inference":
            return torch.inference_mode()
        case "autocast":
            return torch.autocast("cpu", dtype=torch.bfloat16)
        case "device":
            return torch.device("meta")  # which is where no result may be
        case "dtype":
            return default_dtype(torch.float64)
        case _:
            return nullcontext()


def result_of(call: Call) -> list[Tensor] | str:
    """Output, log-sum-exp and gradients; or what went wrong."""
    attention = attention_of(call.pattern, call.heads, call.backend, call.kind == "follow")
    generator = torch.Generator().manual_seed(call.seed)
    tensors, options = arguments_of(call, generator)
    inputs = inputs_of(call, len(options["cu_seqlens_q"]) - 1 if call.kind == "varlen" else call.batch, generator)
    leaves = [x for x in (*tensors, *inputs.values()) if x.is_floating_point()]
    for x in leaves:
        x.requires_grad_(call.trains)
    function = attention.varlen if call.kind == "varlen" else attention.__call__
    if call.mode == "compile":
        function = torch.compile(function, backend="aot_eager")
    try:
        with mode_of(call.mode):
            out, lse = function(*tensors, return_lse=True, **options, **inputs)
        results = [out, lse]
        if call.trains:
            weights = [torch.randn(x.shape, generator=generator).to(x.dtype) for x in results]
            results += torch.autograd.grad(results, leaves, weights, materialize_grads=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return [x.detach().clone() for x in results]


def arguments_of(call: Call, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Any]]:
    """q, k and v, and what says where they are."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(call.dtype)

    def integer(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator)

    batch, length, keys = call.batch, call.length, (call.key_heads, DIM)
    match call.kind:
        case "whole" | "ordered" | "follow":
            tokens = length if call.kind == "follow" else LENGTH
            options = {"layout": "ordered"} if call.kind == "ordered" and call.pattern not in ("routed", "mass") else {}
            q, k, v = (normal(batch, heads, tokens, DIM) for heads in (call.heads, call.key_heads, call.key_heads))
            return [q, k, v], options
        case "chunk":
            starts = integer(0, LENGTH - length, batch)
            k, v = (normal(batch, keys[0], LENGTH, DIM) for _ in "kv")
            options = {"query_start": starts, "key_lengths": starts + length}
            return [normal(batch, call.heads, length, DIM), k, v], options
        case "pages":
            starts, pages = integer(0, LENGTH - length, batch), LENGTH // 4
            table = torch.randperm(batch * pages, generator=generator).view(batch, pages)
            k, v = (normal(batch * pages, keys[0], 4, DIM) for _ in "kv")
            options = {"query_start": starts, "key_lengths": starts + length, "page_table": table}
            return [normal(batch, call.heads, length, DIM), k, v], options
        case "padded":
            counts = integer(1, length, batch)
            slots = torch.arange(length).expand(batch, -1)
            table = torch.where(slots < counts[:, None], slots + length * torch.arange(batch)[:, None], -1)
            k, v = (normal(batch * length, keys[0], 1, DIM) for _ in "kv")
            options = {"query_start": torch.zeros(batch, dtype=torch.int64), "page_table": table}
            return [normal(batch, call.heads, length, DIM), k, v], options
        case "varlen":
            ends = torch.cat([torch.zeros(1, dtype=torch.int64), integer(1, length, batch + 1).cumsum(0)])
            q, k, v = (normal(int(ends[-1]), heads, DIM) for heads in (call.heads, *(keys[0],) * 2))
            return [q, k, v], {"cu_seqlens_q": ends}
    raise AssertionError(call.kind)


def inputs_of(call: Call, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
    tokens = call.length if call.kind == "follow" else LENGTH
    found = {}
    for each in PATTERNS[call.pattern].bind(n=tokens, heads=call.heads).ir.given:
        sizes = [batch if part.kind is DimensionKind.BATCH else part.size for part in each.dimensions]
        if str(each.type) == "float":
            found[each.name] = torch.randn(sizes, generator=generator).to(call.dtype)
        elif str(each.type) == "bool":
            found[each.name] = torch.randint(0, 2, sizes, generator=generator).bool()
        else:
            found[each.name] = torch.randint(0, 3, sizes, generator=generator)
    return found


# Sequences


@dataclass(frozen=True)
class Theme:
    """What the calls of a sequence have in common: few attentions, which so have many calls each."""

    patterns: list[str]
    heads: int
    backend: str

    @staticmethod
    def drawn(random: Random) -> "Theme":
        backend = random.choice(["auto", "auto", "auto", "reference"])
        return Theme(random.sample([*BODIES], 2), random.choice([2, 4, 4]), backend)


Step = tuple[Call, ...]
"""Calls at once, each in a thread of its own; one alone is in the main thread."""


def steps_of(random: Random, count: int) -> list[Step]:
    """So many calls. Those of a step are not compiled by torch, and change nothing for the whole process."""
    steps: list[Step] = []
    theme = Theme.drawn(random)
    while count > 0:
        calls = [Call.drawn(random, theme) for _ in range(min(count, random.choice([1, 1, 1, 1, 3])))]
        steps.append(tuple(each for each in calls if len(calls) == 1 or each.mode not in ("compile", "dtype")))
        count -= len(steps[-1])
    return [step for step in steps if step]


def results_of(steps: list[Step]) -> list[list[Tensor] | str]:
    return [result for step in steps for result in (at_once(step) if len(step) > 1 else [result_of(step[0])])]


def at_once(step: Step) -> list[list[Tensor] | str]:
    with ThreadPoolExecutor(len(step)) as threads:
        started = Barrier(len(step))
        return [*threads.map(lambda call: (started.wait(), result_of(call))[1], step)]


def forked(function: Callable[[], Any]) -> Any:
    """What a function gives in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result"
        process = os.fork()
        if not process:
            status = 1
            try:
                torch.save(function(), path)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(process, 0)
        assert status == 0, f"a process ended with {status}"
        return torch.load(path)


def same(found: list[Tensor] | str, expected: list[Tensor] | str) -> bool:
    if isinstance(found, str) or isinstance(expected, str):
        return found == expected
    pairs = zip(found, expected, strict=True)
    return all(x.dtype == y.dtype and torch.allclose(x, y, rtol=ROOM, atol=ROOM, equal_nan=True) for x, y in pairs)


def differing(seed: int, count: int) -> tuple[list[str], int]:
    """What is told of calls that differ from themselves alone, or fail alone; and how many calls there were."""
    random, told, total = Random(seed), [], 0
    while total < count:
        steps = steps_of(random, min(EACH, count - total))
        calls = [call for step in steps for call in step]
        found = forked(lambda steps=steps: results_of(steps))
        for number, (call, result) in enumerate(zip(calls, found, strict=True)):
            expected = forked(lambda call=call: result_of(call))
            if isinstance(expected, str):
                told.append(f"fails alone: {call}\n  {expected}")
            elif not same(result, expected):
                told.append(difference(calls[:number], call, result, expected))
        total += len(calls)
    return told, total


def difference(before: list[Call], call: Call, found: list[Tensor] | str, expected: list[Tensor]) -> str:
    lines = [f"differs: {call}", f"  {found}" if isinstance(found, str) else f"  by {apart(found, expected)}"]
    for each in before:
        _, again = forked(lambda each=each: [result_of(each), result_of(call)])
        if not same(again, expected):
            return "\n".join([*lines, f"  behind {each}"])
    return "\n".join([*lines, f"  behind {len(before)} calls, but behind none of them alone"])


def apart(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    """The largest difference of each tensor."""
    return [float((x - y).abs().max()) if x.numel() else 0.0 for x, y in zip(found, expected, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=2000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    told, total = differing(given.seed, given.count)
    print(*told, f"{total:,} calls: {len(told)} differ", sep="\n")
    return bool(told)


if __name__ == "__main__":
    sys.exit(main())

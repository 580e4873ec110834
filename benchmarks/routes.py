"""Content routing on a CPU: `python benchmarks/routes.py [--quick]` measures, and writes `results/routes.json`.

The memory of calls that select single keys, the time of an indexer's selection against the same scores in torch, and
that of heads that share a selection. Times are the best of several, in turn, in seconds; `--quick` makes everything
small, for the test of the benchmark, and writes nothing.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import torch
from cpu import machine
from measures import in_turn
from torch import Tensor

import maskdsl
from maskdsl.api.bound_patterns import Mask
from maskdsl.emit.plan import make_plan
from maskdsl.runtime.base.call_cache import CallStates
from maskdsl.runtime.kernels.route_finder import RouteFinder

RESULTS = Path(__file__).with_name("results") / "routes.json"
EXAMPLES = Path(__file__).parents[1] / "examples" / "routing"
DIM, INDEX_HEADS, WIDTH = 64, 4, 64
MEGABYTES = 1e6
Result = dict[str, Any]


def bound(name: str, n: int, **options: int) -> Mask:
    """The example of this name, at this length."""
    return maskdsl.load(EXAMPLES / f"{name}.attn")[name].bind(n=n, **options)


def peak() -> int:
    """The most memory that this process has had, in bytes; unlike `getrusage`, without that of its parent. On Linux."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024


def memory(name: str, n: int, top: int, heads: int) -> Result:
    """What a whole call takes beside its tensors, in bytes, in this process; a small call before it loads modules."""
    options = {"heads": heads} | ({"index_heads": INDEX_HEADS, "width": WIDTH} if name == "dsa" else {})

    def run(n: int, top: int) -> int:
        attention = bound(name, n, top=top, **options).compile("tiled")
        q, k, v = torch.randn(3, 1, heads, n, DIM)
        indexer = indexer_of(n, INDEX_HEADS, WIDTH) if name == "dsa" else {}
        before = peak()
        attention(q, k, v, **indexer)
        return peak() - before

    run(256, 4)
    return {"bytes": run(n, top)}


def indexer_of(n: int, heads: int, width: int) -> dict[str, Tensor]:
    """What the indexer of DSA gives: queries, keys, weights."""
    return {"iq": torch.randn(1, heads, n, width), "ik": torch.randn(1, n, width), "iw": torch.randn(1, heads, n)}


def selection(mask: Mask, q: Tensor, k: Tensor, inputs: dict[str, Tensor]) -> tuple[RouteFinder, Callable[[], object]]:
    """What finds the routes of a mask, and a call of it."""
    finder = RouteFinder.of(make_plan(mask.ir), CallStates())
    given = [inputs[each.name] for each in mask.ir.passed]
    return finder, lambda: finder.find(q, k, given)


def by_einsum(iq: Tensor, ik: Tensor, iw: Tensor, top: int, block: int = 512) -> list[Tensor]:
    """The same choice as DSA's, in blocks of queries."""
    n, chosen = ik.shape[1], []
    for first in range(0, n, block):
        rows = slice(first, first + block)
        s = torch.einsum("hqd,kd->hqk", iq[0, :, rows], ik[0]).relu_()
        s = torch.einsum("hqk,hq->qk", s, iw[0, :, rows])
        s.masked_fill_(torch.arange(n) > torch.arange(n)[rows, None], -inf)
        values, keys = s.topk(top, dim=-1)
        chosen.append(keys.masked_fill(values == -inf, -1))
    return chosen


def indexer(n: int, top: int, heads: int, width: int, times: int) -> Result:
    """DSA's selection and `by_einsum`, after a check that nearly all keys are the same: sums are rounded otherwise."""
    inputs = indexer_of(n, heads, width)
    q = torch.randn(1, 1, n, DIM)
    _, ours = selection(bound("dsa", n, top=top, index_heads=heads, width=width), q, q, inputs)
    (table,) = ours()  # type: ignore[misc]
    keys = torch.cat(by_einsum(**inputs, top=top))
    same = table[0].gather(1, keys.clamp(min=0)) & (keys >= 0)
    assert same.sum() >= 0.999 * max(table.sum(), (keys >= 0).sum())
    seconds, torch_seconds = in_turn(ours, lambda: by_einsum(**inputs, top=top), times)
    return {"seconds": seconds, "torch_seconds": torch_seconds, "ratio": seconds / torch_seconds}


def shared(n: int, heads: tuple[int, int], times: int) -> Result:
    """InfLLM's selection from summed shares, for many query heads and for as many as key heads, two.

    `with_scores` is the ratio of both including the shares, which each query head has of its own.
    """
    taken: dict[int, list[float]] = {each: [] for each in heads}

    def timed(count: int) -> Callable[[], object]:
        mask = bound("infllm", n, heads=count, key_heads=2)
        q, k = torch.randn(1, count, n, DIM), torch.randn(1, 2, n, DIM)
        finder, find = selection(mask, q, k, {"dim": torch.tensor(DIM)})
        find_picked = finder.module.find_picked

        def recorded(*arguments: object) -> object:
            began = time.perf_counter()
            result = find_picked(*arguments)
            taken[count].append(time.perf_counter() - began)
            return result

        finder.module.find_picked = recorded  # type: ignore[attr-defined]
        return find

    whole = in_turn(*map(timed, heads), times + 1)
    many, few = (min(taken[each][1:]) for each in heads)
    return {"seconds": many, "few_seconds": few, "ratio": many / few, "with_scores": whole[0] / whole[1]}


def measured(quick: bool = False) -> Result:
    """All results by name, with the most that each may be."""
    found: Result = {}
    n, top = (2048, 8) if quick else (16384, 64)
    for name, heads in (("knn", 1), ("knn", 4), ("dsa", 1)):
        arguments = [sys.executable, __file__, "--memory", name, *map(str, (n, top, heads))]
        result = json.loads(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
        work = f"memory of {name}, {n:,} tokens, top {top}, {heads} head{'s' * (heads > 1)}"
        found[work] = result | {"bar_bytes": 200 * MEGABYTES}
    n, top, heads, width = (512, 64, 16, 16) if quick else (4096, 512, 64, 128)
    work = f"selection of dsa, {n:,} tokens, top {top}, {heads} index heads of {width}, against einsum"
    found[work] = indexer(n, top, heads, width, 2 if quick else 3) | {"bar_ratio": 2.0}
    n = 512 if quick else 4096
    work = f"selection of infllm from summed shares, {n:,} tokens, 32 query heads on 2 against 2"
    found[work] = shared(n, (32, 2), 2 if quick else 7) | {"bar_ratio": 1.3}
    return found


if __name__ == "__main__":
    if "--memory" in sys.argv:
        kind, *numbers = sys.argv[2:]
        print(json.dumps(memory(kind, *map(int, numbers))))
    else:
        results = {"machine": machine(), "results": measured("--quick" in sys.argv)}
        print(json.dumps(results, indent=1))
        if "--quick" not in sys.argv:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")

"""Measures maskdsl on a CPU against what people write without it: `python benchmarks/cpu_contest.py [--only NAME]`.

Each case has a process of its own. Results are compared before anything is timed; then all sides are called in turn.
A figure is the time of the best rival over ours, medians of processor time with one thread, of wall time with two.
Writes `results/cpu_contest.json` and a table of docs/measured.md.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from cpu import TABLE, machine, with_sections
from cpu_cases import CASES, FORWARD, Case
from cpu_report import OURS, line, page_rows, summary
from cpu_rivals import Compute, flex
from cpu_setups import Setup
from rich.console import Console
from torch import Tensor

from maskdsl.base.cache import CACHE_VARIABLE
from maskdsl.runtime.attention import Attention
from maskdsl.runtime.backends.available import backend_names, computing

RESULTS = Path(__file__).with_name("results") / "cpu_contest.json"
FLEX = "FlexAttention"
SECONDS, LEAST, MOST = 1.0, 2, 100
"""How long a measurement takes, and its fewest and most rounds, beside a first call of each side."""
SHORT = 0.1
"""Calls that take less, in seconds, are repeated whichever side is fast."""
SAMPLE = 2e-3
"""About the shortest time that is measured, in seconds: shorter calls are repeated."""
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2}
"""By how much results may differ, of the largest."""

Record = dict[str, Any]
Step = Callable[[], tuple[Tensor, ...]]


class Unequal(Exception):
    """A rival gave another result."""


# One case


def measured(case: Case, backend: str, threads: int, seconds: float, small: bool, quick: bool) -> Iterator[Record]:
    """A record for each dtype and pass. Raises `Unequal` before anything is timed."""
    torch.set_num_threads(threads)
    for dtype in case.dtypes[: 1 if quick else None]:
        setup = case.setup(dtype, small)
        attention = setup.mask.compile(backend)  # type: ignore[arg-type]
        ours = our_call(setup, attention)
        check_sample(setup, ours, TOLERANCES[dtype])
        used = used_backend(setup, attention, backend)
        for kind in case.passes:
            sides = {OURS: ours} | setup.rivals
            left_out = {}
            if case.flex and kind == FORWARD and not quick:
                with_flex(sides, left_out, setup, attention)
            steps = {name: step(compute, setup.tensors, kind) for name, compute in sides.items()}
            check(steps, setup.others, TOLERANCES[dtype])
            record = {"case": case.name, "pass": kind, "dtype": dtype, "threads": threads, "backend": used}
            clock = time.process_time if threads == 1 else time.perf_counter
            # What queries choose is kept while they stay the same.
            renew = setup.tensors[0].normal_ if setup.others else None
            times = in_turn(steps, seconds, clock, renew)
            result = figures(times)
            memory = {name: added(steps[name]) for name in (OURS, result["best"]) if seconds}
            yield record | result | {"memory": memory} | left_out


def our_call(setup: Setup, attention: Attention) -> Compute:
    state = {"routing_state": attention.routing_state()} if setup.stateful else {}
    return partial(attention.varlen if setup.varlen else attention, **setup.inputs, **state)


def used_backend(setup: Setup, attention: Attention, name: str) -> str:
    """What computes whole calls."""
    q, _, v = (x.transpose(0, 1)[None] if setup.varlen else x for x in setup.tensors)
    return computing(name, attention._compiled.plan, q, v).name


def with_flex(sides: dict[str, Compute], left_out: Record, setup: Setup, attention: Attention) -> None:
    """FlexAttention among the sides if it computes this on a CPU, else why not."""
    q, k, v = setup.tensors
    try:
        compute = flex(attention, setup.inputs, q.shape[-1])
        with torch.no_grad():
            compute(q, k, v)
        sides[FLEX] = compute
    except Exception as error:
        left_out["left out"] = {FLEX: f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:160]}


def step(compute: Compute, tensors: tuple[Tensor, ...], kind: str) -> Step:
    """What is timed: the result, or that and the gradients of q, k and v."""
    if kind == FORWARD:

        def forward() -> tuple[Tensor, ...]:
            with torch.no_grad():
                return (compute(*tensors),)

        return forward
    leaves = [x.detach().requires_grad_() for x in tensors]
    toward = torch.randn(tensors[0].shape, generator=torch.Generator().manual_seed(1)).to(tensors[0].dtype)

    def both() -> tuple[Tensor, ...]:
        out = compute(*leaves)
        return out, *torch.autograd.grad(out, leaves, toward)

    return both


def check(steps: dict[str, Step], others: tuple[str, ...], tolerance: float) -> None:
    """Calls all sides, and compares results and gradients of ours and of rivals that compute the same."""
    ours = steps[OURS]()
    for name, call in steps.items():
        for one, other in zip(ours, call(), strict=True):
            if name not in (OURS, *others):
                compare(name, one, other, tolerance)


def check_sample(setup: Setup, ours: Compute, tolerance: float) -> None:
    if setup.sample is not None:
        rows, selected = setup.sample
        with torch.no_grad():
            compare("of some queries", ours(*setup.tensors)[:, :, rows], selected(*setup.tensors), tolerance)


def compare(name: str, one: Tensor, other: Tensor, tolerance: float) -> None:
    error = (one.float() - other.float()).abs().max() / other.float().abs().max()
    if not error <= tolerance:
        raise Unequal(f"{name}: results differ by {error:.1e} of the largest")


def in_turn(
    steps: dict[str, Step], seconds: float, clock: Callable[[], float], renew: Callable[[], object] | None = None
) -> dict[str, float]:
    """The median seconds of a call of each; all have been called before. What is slow by far is called once.

    With no `seconds` each is called once. `renew` is called before each call, and not timed.
    """

    def timed(call: Step, calls: int) -> float:
        """Seconds of one of so many calls: of each by itself where something is made anew."""
        taken = 0.0
        for _ in range(1 if renew is None else calls):
            if renew is not None:
                renew()
            began = clock()
            for _ in range(calls if renew is None else 1):
                call()
            taken += clock() - began
        return taken / calls

    if not seconds:
        return {name: timed(call, 1) for name, call in steps.items()}
    taken = {name: [timed(call, 1)] for name, call in steps.items()}
    once = {name: max(each[0], 1e-6) for name, each in taken.items()}
    fastest = min(each for name, each in once.items() if name != OURS)
    repeated = [name for name, each in once.items() if name == OURS or each < max(2 * fastest, SHORT)]
    calls = {name: max(1, min(100, round(SAMPLE / once[name]))) for name in repeated}
    rounds = max(LEAST, min(MOST, round(seconds / sum(once[name] * calls[name] for name in repeated))))
    gc.collect()
    gc.disable()
    for turn in range(rounds):
        for name in repeated[turn % len(repeated) :] + repeated[: turn % len(repeated)]:
            taken[name].append(timed(steps[name], calls[name]))
    gc.enable()
    return {name: median(each) for name, each in taken.items()}


def figures(times: dict[str, float]) -> Record:
    best = min((name for name in times if name != OURS), key=times.__getitem__)
    return {
        "seconds": {name: float(f"{each:.4g}") for name, each in times.items()},
        "best": best,
        "ratio": float(f"{times[best] / times[OURS]:.4g}"),
    }


def added(call: Step) -> float | None:
    """The most memory that a call takes at a time beside what there was, in megabytes, results included. On Linux."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    before = status("VmRSS")
    call()
    return round(max(0, status("VmHWM") - before) / 1e3, 1)


def status(name: str) -> int:
    """Of this process, in kilobytes."""
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0])


# All cases


LIBRARY = """
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from maskdsl.runtime.backends.native import library

def used():
    return sum(each.ru_utime + each.ru_stime for each in map(getrusage, (RUSAGE_SELF, RUSAGE_CHILDREN)))

before = used()
assert library.library() is not None, library.native_library().why_not
print(used() - before)
"""


def kernel_seconds() -> dict[str, float] | None:
    """Processor time to compile the kernels in C, and to load them from the cache; None without a compiler."""
    with TemporaryDirectory() as folder:
        environment = {**os.environ, CACHE_VARIABLE: folder}
        command = [sys.executable, "-c", LIBRARY]
        runs = [subprocess.run(command, capture_output=True, text=True, env=environment) for _ in range(4)]
    if any(each.returncode for each in runs):
        return None
    first, *others = (float(each.stdout) for each in runs)
    return {"compiled": round(first, 3), "loaded": round(min(others), 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="cases whose names or kinds begin so; kept are others' results"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, float32 and no FlexAttention, for a look")
    parser.add_argument("--backend", choices=backend_names(), default="auto")
    parser.add_argument("--threads", type=int, choices=(1, 2), action="append", help="by default 1, then 2 for some")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for each measurement")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases of one thread at a time")
    parser.add_argument("--output", type=Path, help="where the JSON goes, instead of the results and the page")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        case, threads = CASES[options.case], options.threads[0]
        for record in measured(case, options.backend, threads, options.seconds, options.quick, options.quick):
            print(json.dumps(record), flush=True)
        return
    begins = tuple(options.only or [""])
    chosen = [case for case in CASES.values() if case.name.startswith(begins) or case.kind.startswith(begins)]
    if not chosen:
        kinds = ", ".join({case.kind: None for case in CASES.values()})
        parser.error(f"no case is called so; there are the kinds {kinds}; and {'; '.join(CASES)}")
    console, records = Console(), []
    for threads in options.threads or (1, 2):
        cases = [case for case in chosen if threads == 1 or case.threads]
        with ThreadPoolExecutor(options.jobs if threads == 1 else 1) as pool:
            run = partial(in_process, threads=threads, options=options)
            for each in pool.map(run, cases):
                records += each
                console.print(*map(line, each), sep="\n", highlight=False, soft_wrap=True)
    kernels = None if options.quick or options.only else kernel_seconds()
    whole = {"machine": machine(), "quick": options.quick, "kernels": kernels, "records": records}
    console.print(*summary(whole), sep="\n", highlight=False)
    if options.output is not None:
        write(options.output, whole)
    elif not options.quick:
        whole = merged(json.loads(RESULTS.read_text()), whole) if options.only and RESULTS.exists() else whole
        write(RESULTS, whole)
        TABLE.write_text(with_sections(TABLE.read_text(), {"contest": page_rows(whole)}))


def merged(before: Record, now: Record) -> Record:
    """All results of cases that there are, those measured now in place of those of before; in the order of cases."""
    measured, names = {(each["case"], each["threads"]) for each in now["records"]}, [*CASES]
    kept = [each for each in before["records"] if (each["case"], each["threads"]) not in measured]
    kept = [each for each in kept if each["case"] in CASES]
    records = sorted([*kept, *now["records"]], key=lambda each: (each["threads"], names.index(each["case"])))
    return now | {"kernels": now["kernels"] or before["kernels"], "records": records}


def in_process(case: Case, threads: int, options: argparse.Namespace) -> list[Record]:
    words = ["--case", case.name, "--threads", threads, "--backend", options.backend, "--seconds", options.seconds]
    command = [sys.executable, __file__, *map(str, words), *(["--quick"] if options.quick else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    records = [json.loads(each) for each in ended.stdout.splitlines() if each.startswith("{")]
    if ended.returncode:
        records.append({"case": case.name, "threads": threads, "failed": ended.stderr.strip().splitlines()[-1]})
    return records


def write(path: Path, whole: Record) -> None:
    """JSON with a line for each record."""
    head = {name: each for name, each in whole.items() if name != "records"}
    lines = ",\n".join(map(json.dumps, whole["records"]))
    path.write_text(f'{json.dumps(head)[:-1]}, "records": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()

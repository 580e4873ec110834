"""Measures maskdsl on a GPU against FlexAttention, torch's flash attention and the rate of a product: `make bench-gpu`.

Everything is checked against float64 before it is timed. Prints a table, and writes `benchmarks/results/<gpu>.json` and
a picture of it. `--device cpu` goes through the same steps at sizes that mean nothing, to try the benchmark itself.
"""

import argparse
import json
import os
import re
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import product
from multiprocessing import TimeoutError, get_context
from pathlib import Path

import gpu_decode
import gpu_maps
import torch
from gpu_contest import Case, Record, compile_ahead, measure, reason
from gpu_patterns import ENTRIES, Size
from gpu_report import PASSES, Results, case_table, decode_table, excuses, goal_table, goals, outcome, summary
from gpu_timing import Budget, Timer
from rich.console import Console

RESULTS = Path(__file__).parent / "results"
MOST_WORKERS = 12


@dataclass(frozen=True)
class Plan:
    """What is measured, and how long it may take, in seconds."""

    settings: tuple[tuple[int, int], ...]
    """Pairs (tokens, head dim), the most important ones first."""
    tokens: int
    """A batch has as many, where sequences are shorter."""
    heads: int
    dtype: torch.dtype
    longest: int
    """Tokens of block maps, and of the cache that is decoded from."""
    product_side: int
    whole: float
    compiling: float
    case: float
    measurement: float

    def cases(self, names: list[str], device: torch.device) -> list[Case]:
        entries = [entry for entry in ENTRIES if not names or entry.name in names]
        return [
            Case(entry, Size(length, self.heads, device), max(1, self.tokens // length), dim, self.dtype)
            for (length, dim), entry in product(self.settings, entries)
        ]

    def cache(self, device: torch.device) -> gpu_decode.Cache:
        """Four query heads share those of keys; a window is the 32nd part."""
        heads, dim = (4 * self.heads, self.heads), self.settings[0][1]
        return gpu_decode.Cache(self.longest, self.longest // 32, 4, *heads, dim, self.dtype, device)


FULL = Plan(
    settings=((16384, 128), (4096, 64), (131072, 128), (4096, 128), (131072, 64)),
    tokens=32768,
    heads=8,
    dtype=torch.bfloat16,
    longest=131072,
    product_side=8192,
    whole=510,
    compiling=180,
    case=30,
    measurement=0.2,
)
QUICK = Plan(((4096, 64),), 32768, 8, torch.bfloat16, 16384, 8192, 150, 90, 30, 0.1)
DRY = Plan(((256, 16),), 512, 2, torch.float32, 256, 128, 60, 0, 30, 0.0)


def main() -> int:
    options = arguments()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("There is no GPU here. `--device cpu` tries the benchmark itself.")
    if device.type == "cpu":
        warnings.filterwarnings("ignore")  # of peers that are not compiled
        torch.set_num_threads(1)  # little work, and others may be at work
    console = Console(width=None if sys.stdout.isatty() else 160)
    plan = DRY if device.type == "cpu" else QUICK if options.quick else FULL
    facts = machine(device)
    path = options.output
    if path is None and plan is FULL and not options.only:
        path = RESULTS / f"{slug(facts['gpu'])}.json"
    results = measured(plan, options.only, {"machine": facts}, device, console, path)
    report(plan, results, console)
    if path is not None:
        picture(results, path, console)
    return int(any({"wrong", "failed"} & set(outcome(case, part)) for case in results["cases"] for part in PASSES))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--quick", action="store_true", help="4,096 tokens and head dim 64 alone")
    parser.add_argument("--only", action="append", default=[], choices=[entry.name for entry in ENTRIES])
    parser.add_argument("--output", type=Path, help="where the JSON goes, and the picture beside it")
    return parser.parse_args()


def measured(
    plan: Plan, names: list[str], results: Results, device: torch.device, console: Console, path: Path | None
) -> Results:
    """The results with everything measured; on the way the file of `path` holds what there is so far."""
    whole = Budget.of("the whole run", plan.whole)
    cases = plan.cases(names, device)
    timer = Timer(device, plan.measurement)
    results["settings"] = {"dtype": str(plan.dtype).removeprefix("torch."), "heads": plan.heads}
    results["matmul_tflops"] = product_rate(plan, timer)
    results["block_maps"] = gpu_maps.measure(Size(plan.longest, plan.heads, device), timer)
    results["decode"] = gpu_decode.measure(plan.cache(device), timer)
    if plan.compiling:
        ended = compile_all(cases, plan.compiling)
        console.print(f"{ended} of {len(cases)} cases compiled after {plan.whole - whole.left:.0f} s")
    results["cases"] = []
    for number, case in enumerate(cases):
        results["cases"].append(within(whole, plan.case, case, timer))
        console.print(f"{number + 1} of {len(cases)} after {plan.whole - whole.left:.0f} s: {case}", highlight=False)
        results |= summary(results) | {"seconds": plan.whole - whole.left}
        if path is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(results, indent=1) + "\n")
    return results


def within(whole: Budget, limit: float, case: Case, timer: Timer) -> Record:
    """One case, if there is time for it."""
    try:
        whole.check()
        return measure(case, timer, Budget.of("one case", min(limit, whole.left)))
    except Exception as error:
        return {**case.record, "contenders": {}, **reason(error)}
    finally:
        if case.size.device.type == "cuda":
            torch.cuda.empty_cache()


def compile_all(cases: list[Case], seconds: float) -> int:
    """Compiles side by side in processes of their own, which leave kernels on disk. Gives how many ended in time."""
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    budget = Budget.of("compiling", seconds)
    with get_context("spawn").Pool(min(MOST_WORKERS, os.cpu_count() or 1)) as pool:
        results = pool.imap_unordered(compile_ahead, cases)
        for ended in range(len(cases)):
            try:
                results.next(timeout=max(0.0, budget.left))
            except TimeoutError:
                return ended
    return len(cases)


def product_rate(plan: Plan, timer: Timer) -> float:
    """TFLOP/s of a large product of matrices."""
    side = plan.product_side
    one, other = (torch.randn(side, side, dtype=plan.dtype, device=timer.device) for _ in range(2))
    return 2 * side**3 / timer.median(lambda: one @ other) / 1e12


def machine(device: torch.device) -> Record:
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU: a trial on the CPU"
    packages = {name: version(name) for name in ("maskdsl", "torch", "triton", "numpy") if find_spec(name)}
    toolkit = torch.version.cuda or torch.version.hip
    return {"gpu": gpu, "toolkit": toolkit, "cores": os.cpu_count(), **packages}


def slug(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower()).strip("-")


def report(plan: Plan, results: Results, console: Console) -> None:
    console.print(case_table(results))
    for line in excuses(results):
        console.print(line, highlight=False)
    console.print(decode_table(results))
    console.print(goal_table(goals(results)))
    if plan is DRY:
        console.print("This was a trial on the CPU: no figure above means anything.")


def picture(results: Results, path: Path, console: Console) -> None:
    if find_spec("matplotlib") is None:
        console.print(f"No picture without matplotlib; `python benchmarks/gpu_plot.py {path}` draws it elsewhere.")
        return
    from gpu_plot import draw  # late: an optional dependency

    draw(results, path.with_suffix(".png"))


if __name__ == "__main__":
    sys.exit(main())

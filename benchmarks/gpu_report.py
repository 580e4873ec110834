"""What the measurements of `gpu.py` come to: ratios, means, goals, and tables to print."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import exp, log
from typing import Any

from gpu_contest import FLASH, FLEX, OURS, Record
from rich.table import Table

PASSES = ("forward", "backward")
REASONS = ("skipped", "failed", "wrong")
"""Why there may be no times."""
MEAN_GOAL, FLASH_GOAL, MAPS_GOAL, DECODE_GOAL = 1.15, 0.9, 20.0, 10.0

Results = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """What was wanted, and what there is. `met` is None where it could not be measured."""

    text: str
    measured: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "missed", None: "not measured"}[self.met]


def seconds(case: Record, name: str, part: str) -> float | None:
    """Of one contender's pass; None where it was not measured."""
    found: float | None = case["contenders"].get(name, {}).get(part, {}).get("seconds")
    return found


def ratio(case: Record, peer: str, part: str) -> float | None:
    """How many times as fast as a peer we are."""
    own, other = seconds(case, OURS, part), seconds(case, peer, part)
    return None if own is None or other is None else other / own


def label(case: Record) -> str:
    return f"{case['pattern']}, {case['length']:,} x {case['head_dim']}"


def geometric_mean(ratios: list[float]) -> float | None:
    return exp(sum(map(log, ratios)) / len(ratios)) if ratios else None


def means(cases: list[Record]) -> dict[str, dict[str, float | None]]:
    """Geometric means of our ratios to each peer, by pass."""
    return {
        peer: {
            part: geometric_mean([found for case in cases if (found := ratio(case, peer, part)) is not None])
            for part in PASSES
        }
        for peer in (FLEX, FLASH)
    }


# Goals


def goals(results: Results) -> list[Goal]:
    cases = results["cases"]
    found = []
    for part in PASSES:
        found.append(every(f"{part}: at least as fast as FlexAttention on every pattern", cases, FLEX, part, 1.0))
        mean = means(cases)[FLEX][part]
        found.append(single(f"{part}: {MEAN_GOAL} times as fast in the geometric mean", mean, MEAN_GOAL))
    plain = [case for case in cases if case["pattern"] in ("dense", "causal")]
    for part in PASSES:
        found.append(every(f"{part}: dense and causal within 10% of SDPA's flash", plain, FLASH, part, FLASH_GOAL))
    maps = results["block_maps"]
    text = f"block maps of documents: {MAPS_GOAL:g} times as fast as compiled `create_block_mask`"
    found.append(single(text, maps.get("ratio"), MAPS_GOAL))
    text = f"decode over a 32nd of a cache: {DECODE_GOAL:g} times as fast as over all of it"
    found.append(single(text, results["decode"].get("ratio"), DECODE_GOAL))
    return found


def every(text: str, cases: list[Record], peer: str, part: str, bar: float) -> Goal:
    """One for which all cases count; what we could not compute is missed, what the peer could not is left out."""
    broken = [label(case) for case in cases if {"failed", "wrong"} & set(outcome(case, part))]
    compared = {label(case): found for case in cases if (found := ratio(case, peer, part)) is not None}
    slower = [f"{name} ({found:.2f})" for name, found in compared.items() if found < bar]
    parts = [f"{len(compared)} of {len(cases)} compared"]
    if compared:
        parts.append(f"least {min(compared.values()):.2f}")
    if slower:
        parts.append(f"below {bar:g}: {'; '.join(slower)}")
    if broken:
        parts.append(f"ours failed: {'; '.join(broken)}")
    complete = bool(cases) and len(compared) == len(cases)
    return Goal(text, ", ".join(parts), False if slower or broken else True if complete else None)


def outcome(case: Record, part: str) -> Record:
    """Of ours: times, or why there are none."""
    own: Record = case["contenders"].get(OURS, case)
    found: Record = own.get(part, own)
    return found


def single(text: str, found: float | None, bar: float) -> Goal:
    return Goal(text, "-" if found is None else f"{found:.2f} times", None if found is None else found >= bar)


def summary(results: Results) -> Results:
    """What is worth keeping beside the measurements."""
    kept = [{**asdict(goal), "verdict": goal.verdict} for goal in goals(results)]
    return {"means": means(results["cases"]), "goals": kept}


# Tables


def case_table(results: Results) -> Table:
    """One line for each case and pass: our time and useful rate, and how many times as fast as each peer we are."""
    names = ("pattern", "tokens", "dim", "pass", "ours", "TFLOP/s", "of a product", f"to {FLEX}", f"to {FLASH}")
    table = Table(*names)
    for case in results["cases"]:
        for part in PASSES:
            own = outcome(case, part)
            start = case["pattern"], f"{case['length']:,}", str(case["head_dim"]), part
            if "seconds" not in own:
                table.add_row(*start, *(what for what in REASONS if what in own))
                continue
            rate = own["tflops"]
            share = f"{rate / results['matmul_tflops']:.0%}"
            times = [against(case, peer, part) for peer in (FLEX, FLASH)]
            table.add_row(*start, duration(own["seconds"]), f"{rate:.3g}", share, *times)
    return table


def against(case: Record, peer: str, part: str) -> str:
    """A ratio, or the peer's excuse."""
    found = ratio(case, peer, part)
    if found is not None:
        return f"{found:.2f}"
    record = case["contenders"].get(peer)
    return "" if record is None else next(what for what in REASONS if what in record.get(part, record))


def excuses(results: Results) -> Iterator[str]:
    """Everything that was not measured, and why."""
    for name in ("block_maps", "decode"):
        yield from (f"{name}: {what}: {results[name][what]}" for what in REASONS if what in results[name])
    for case in results["cases"]:
        parts = [("all", case)]
        for name, record in case["contenders"].items():
            parts += [(name, record), *((f"{name}, {part}", record.get(part, {})) for part in PASSES)]
        for name, part in parts:
            yield from (f"{label(case)}: {name}: {what}: {part[what]}" for what in REASONS if what in part)


def decode_table(results: Results) -> Table:
    found = results["decode"]
    table = Table("decode", "", "time", "error")
    for kind in ("window", "dense"):
        for name, each in found.get(kind, {}).items():
            if "seconds" in each:
                table.add_row(kind, name, duration(each["seconds"]), f"{each['error']:.2g}")
            else:
                table.add_row(kind, name, *(f"{what}: {each[what]}" for what in REASONS if what in each))
    return table


def goal_table(found: list[Goal]) -> Table:
    table = Table("goal", "measured", "")
    for goal in found:
        table.add_row(goal.text, goal.measured, goal.verdict)
    return table


def duration(taken: float) -> str:
    return f"{taken * 1e6:.3g} us" if taken < 1e-3 else f"{taken * 1e3:.3g} ms" if taken < 1 else f"{taken:.3g} s"

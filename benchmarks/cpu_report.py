"""What `cpu_contest.py` has measured, in words and as a table, beside the bars of each case."""

from collections.abc import Iterable
from itertools import groupby
from math import exp, log
from statistics import mean
from typing import Any

from cpu import ms, where
from cpu_cases import BOTH, CASES, FORWARD

OURS = "maskdsl"
BARS = {
    "whole": 0.95,
    "decode": 0.9,
    "decode in a window": 0.5,
    "routes": 1.4,
    "infllm": 1.5,
    "stateful": 3.0,
    "knn": 0.5,
}
"""The least ratio of each case."""
MEANS = {(FORWARD, "float32"): 1.5, (FORWARD, "bfloat16"): 2.2, (BOTH, "float32"): 1.4, (BOTH, "bfloat16"): 1.5}
"""The least geometric mean of all whole sequences."""
SHORTEST, ABOVE = "host, causal 16", {FORWARD: 10e-6, BOTH: 60e-6}
"""How many seconds longer than SDPA a call for 16 tokens may take."""

KERNELS = {"compiled": 1.5, "loaded": 0.05}
"""The most seconds for the kernels in C, once for each machine, and once for each process."""

Record = dict[str, Any]


def above(record: Record) -> float:
    """By how many seconds ours takes longer than the best rival."""
    return float(record["seconds"][OURS] - record["seconds"][record["best"]])


def met(record: Record) -> bool:
    """Whether a case meets its bar; some have none."""
    if "failed" in record:
        return False
    if record["case"] == SHORTEST:
        return above(record) <= ABOVE[record["pass"]]
    return bool(record["ratio"] >= BARS.get(CASES[record["case"]].kind, 0))


def line(record: Record) -> str:
    title = record["case"] + (", two threads" if record["threads"] == 2 else "")
    if "failed" in record:
        return f"{title}: failed: {record['failed']}"
    sides = ", ".join(f"{name} {ms(each)}" for name, each in record["seconds"].items())
    left_out = "".join(f"; left out: {name}: {why}" for name, why in record.get("left out", {}).items())
    below = "" if met(record) else ", below its bar"
    return f"{title}, {record['pass']}, {record['dtype']}: {record['ratio']:.2f}{below} ({sides}){left_out}"


def means(records: Iterable[Record]) -> dict[tuple[str, str], float]:
    """Geometric means of whole sequences with one thread, by pass and dtype."""
    logs: dict[tuple[str, str], list[float]] = {}
    for each in records:
        if "failed" not in each and each["threads"] == 1 and CASES[each["case"]].kind == "whole":
            logs.setdefault((each["pass"], each["dtype"]), []).append(log(each["ratio"]))
    return {key: exp(mean(each)) for key, each in logs.items()}


def summary(whole: Record) -> list[str]:
    """Means, the kernels in C, and how much does not meet its bar."""
    records = whole["records"]
    missed = [each for each in records if not met(each)]
    return [*totals(whole), f"{len(missed)} of {len(records)} figures below their bars"]


def totals(whole: Record) -> list[str]:
    """What is said of all cases together, and of the kernels if they were measured."""
    kernels = whole["kernels"]
    said = [
        f"geometric mean of whole sequences, {', '.join(key)}: {value:.2f}, at least {MEANS[key]}"
        for key, value in means(whole["records"]).items()
    ]
    return said if kernels is None else [*said, kernels_line(kernels)]


def kernels_line(kernels: dict[str, float]) -> str:
    taken = (f"{kind} in {ms(kernels[kind])}, at most {ms(most)}" for kind, most in KERNELS.items())
    return f"kernels in C: {'; '.join(taken)} of processor time"


def page_rows(whole: Record) -> list[str]:
    """The table of docs/measured.md."""
    columns = [*MEANS]
    head = [f"{kind}, {dtype}" for kind, dtype in columns]
    rows = [f"| case | {' | '.join(head)} | memory, best |", "| --- |" + " --- |" * (len(head) + 1)]
    for (name, threads), group in groupby(whole["records"], lambda each: (each["case"], each["threads"])):
        records = [*group]
        figures = {(each.get("pass"), each.get("dtype")): each for each in records}
        cells = [cell(figures.get(key, figures.get((None, None)))) for key in columns]
        rows.append(f"| {name}{', two threads' if threads == 2 else ''} | {' | '.join(cells)} | {memory(records[0])} |")
    return [*rows, "", *(f"- {each}" for each in totals(whole)), "", f"On {where(whole)}."]


def cell(record: Record | None) -> str:
    """The ratio, bold if it misses its bar; in the host's cases how much longer ours takes."""
    if record is None:
        return ""
    if "failed" in record:
        return "failed"
    text = f"{record['ratio']:.2f}"
    if CASES[record["case"]].kind == "host":
        text += f" ({above(record) * 1e6:+.0f} us)"
    return f"{text if met(record) else f'**{text}**'} {record['best']}"


def memory(record: Record) -> str:
    """What the first measurement took, ours and the best rival."""
    each = record.get("memory", {})
    sides = [each.get(OURS), each.get(record.get("best"))]
    return "" if None in sides else " / ".join(f"{side:.0f}" for side in sides) + " MB"

"""Measures maskdsl on a CPU against its bars and against what torch has: `make bench`.

Writes `benchmarks/results/cpu.json`, the table of docs/measured.md and the status in the README. Every line is measured
in a process of its own.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cpu.json"
TABLE = HERE.parent / "docs" / "measured.md"
STATUS = HERE.parent / "README.md"
MEGABYTE = 1e6

Result = dict[str, Any]


class Line(NamedTuple):
    """One line of the table."""

    measure: str
    work: str
    bar: str
    shown: Callable[[Result], str]
    met: Callable[[Result], bool]


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


LINES = [
    Line(
        "tiles_window",
        "exact tiles, window 513, 1,048,576 tokens, block 128",
        "under 0.15 s, 300 MB",
        lambda r: f"{ms(r['seconds'])}, {r['peak'] / MEGABYTE:.0f} MB",
        lambda r: r["seconds"] < 0.15 and r["peak"] < 300 * MEGABYTE,
    ),
    Line(
        "tiles_against_flex",
        "the same at 32,768 tokens, against `torch.compile(create_block_mask)`, warm",
        "100 times faster",
        lambda r: f"{r['ratio']:.0f} times ({ms(r['seconds'])}, {ms(r['flex_seconds'])})",
        lambda r: r["ratio"] >= 100,
    ),
    Line(
        "tiles_documents",
        "exact tiles, causal packed documents, 1,048,576 tokens",
        "under 0.2 s",
        lambda r: ms(r["seconds"]),
        lambda r: r["seconds"] < 0.2,
    ),
    Line(
        "tiles_neighborhood",
        "exact tiles, 33 x 33 neighbourhood over 512 x 512: row-major, tiles, Hilbert",
        "under 0.5 s each",
        lambda r: ", ".join(ms(r[name]) for name in ("row-major", "tiles", "Hilbert")),
        lambda r: all(r[name] < 0.5 for name in ("row-major", "tiles", "Hilbert")),
    ),
    Line(
        "tiles_examples",
        "exact tiles of every example at the largest setting of its paper, 64 Ki to 256 Ki tokens: the slowest",
        "under 0.5 s",
        lambda r: f"{ms(max(r.values()))} ({max(r, key=r.__getitem__).split(': ')[1]}, of {len(r)})",
        lambda r: max(r.values()) < 0.5,
    ),
    Line(
        "tiles_growth",
        "growth from 131,072 to 1,048,576 tokens: window, documents",
        "at most 10 times",
        lambda r: f"{r['window']:.1f}, {r['documents']:.1f} times",
        lambda r: max(r["window"], r["documents"]) <= 10,
    ),
    Line(
        "forward_against_flex",
        "`tiled` forward, window 513, 32,768 tokens, 8 heads of 64, float32, against compiled FlexAttention, warm",
        "at least as fast",
        lambda r: f"{r['ratio']:.2f} times as fast; {r['matmul_share']:.0%} of the rate of a matrix product",
        lambda r: r["ratio"] >= 1,
    ),
    Line(
        "forward_against_sdpa",
        "the same at 8,192 tokens, against `scaled_dot_product_attention` with the boolean mask",
        "10 times faster",
        lambda r: f"{r['ratio']:.1f} times",
        lambda r: r["ratio"] >= 10,
    ),
    Line(
        "forward_backward",
        "`tiled` forward and backward, 131,072 tokens, window 513, 4 heads of 64",
        "linear memory",
        lambda r: (
            f"{ms(r['whole_seconds'])}, {r['whole_added'] / MEGABYTE:.0f} MB added; "
            f"{r['half_added'] / MEGABYTE:.0f} MB at half the length"
        ),
        lambda r: r["whole_added"] < 3 * r["half_added"],
    ),
    Line(
        "command_line",
        "`maskdsl show`, `stats`, `check`, slowest example, from a cold process",
        "under 0.5 s",
        lambda r: ", ".join(ms(r[name]) for name in ("show", "stats", "check")),
        lambda r: max(r[name] for name in ("show", "stats", "check")) < 0.5,
    ),
    Line(
        "first_run",
        "load, bind, compile and first run of Longformer at 4,096 tokens, after `import torch`",
        "under 1 s",
        lambda r: ms(r["seconds"]),
        lambda r: r["seconds"] < 1,
    ),
    Line(
        "moba_against_sdpa",
        "MoBA, block 512, top 3, 32,768 tokens, 4 heads of 64, fp32, selection included, against dense SDPA",
        "5 times faster",
        lambda r: f"{r['ratio']:.1f} times ({ms(r['seconds'])}, {ms(r['dense_seconds'])})",
        lambda r: r["ratio"] >= 5,
    ),
    Line(
        "moba_selection",
        "of that, the selection, against the attention that it selects",
        "under 15 %",
        lambda r: f"{r['share']:.1%} ({ms(r['select_seconds'])} of {ms(r['attend_seconds'])})",
        lambda r: r["share"] < 0.15,
    ),
    Line(
        "moba_memory",
        "MoBA forward and backward, 65,536 tokens, 4 heads of 64",
        "linear memory",
        lambda r: f"{r['whole_added'] / MEGABYTE:.0f} MB added; {r['half_added'] / MEGABYTE:.0f} MB at half the length",
        lambda r: r["whole_added"] < 3 * r["half_added"],
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look; no bar means anything then")
    parser.add_argument("--only", action="append", choices=[line.measure for line in LINES])
    parser.add_argument("--output", type=Path, help="where the JSON goes; the pages are written without this only")
    options = parser.parse_args()
    lines = [line for line in LINES if not options.only or line.measure in options.only]
    console = Console()
    results = {}
    for line in lines:
        with console.status(line.work):
            results[line.measure] = measured(line.measure, options.quick)
    console.print(terminal_table(lines, results))
    whole = {"machine": machine(), "quick": options.quick, "results": results}
    if options.output is not None:
        options.output.write_text(json.dumps(whole, indent=2) + "\n")
    elif not options.quick and not options.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(whole, indent=2) + "\n")
        for page in (TABLE, STATUS):
            page.write_text(with_figures(page.read_text(), whole))


def measured(name: str, quick: bool) -> Result:
    command = [sys.executable, str(HERE / "measures.py"), name, *(["--quick"] if quick else [])]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    result: Result = json.loads(output.splitlines()[-1])
    return result


def machine() -> Result:
    packages = {name: version(name) for name in ("maskdsl", "torch", "numpy")}
    return {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version(), **packages}


def processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def verdict(line: Line, result: Result) -> str:
    return "yes" if line.met(result) else "no"


def terminal_table(lines: list[Line], results: dict[str, Result]) -> Table:
    table = Table("work", "bar", "measured", "met")
    for line in lines:
        result = results[line.measure]
        table.add_row(line.work, line.bar, line.shown(result), verdict(line, result))
    return table


def with_figures(text: str, whole: Result) -> str:
    """A page with the table of all lines, or the status of each part, as `whole` has measured them."""
    return with_sections(text, {"benchmark": table_rows(whole), "status": status_rows(whole)})


def with_sections(text: str, sections: dict[str, list[str]]) -> str:
    """A page with these lines between the comments of their names, where it has such comments."""
    for name, rows in sections.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if start in text:
            before, rest = text.split(start, 1)
            text = "\n".join([before + start, *rows, end]) + rest.split(end, 1)[1]
    return text


def table_rows(whole: Result) -> list[str]:
    rows = ["| work | bar | measured | met |", "| --- | --- | --- | --- |"]
    for line in LINES:
        result = whole["results"][line.measure]
        rows.append(f"| {line.work} | {line.bar} | {line.shown(result)} | {verdict(line, result)} |")
    return [*rows, "", f"On {where(whole)}."]


def status_rows(whole: Result) -> list[str]:
    result = whole["results"]
    tiles, flex = result["tiles_window"], result["tiles_against_flex"]
    sdpa, compiled = result["forward_against_sdpa"], result["forward_against_flex"]
    return [
        "| part | state |",
        "| --- | --- |",
        f"| exact block masks | measured: a window over {tiles['n']:,} tokens in {ms(tiles['seconds'])}; "
        f"at {flex['n']:,} tokens {flex['ratio']:.0f} times as fast as compiled `create_block_mask` |",
        f"| attention on a CPU | measured: a window of 513, float32, {sdpa['ratio']:.1f} times as fast as SDPA with "
        f"the boolean mask at 8,192 tokens, {compiled['ratio']:.2f} times as fast as compiled FlexAttention "
        "at 32,768 |",
        "| Triton kernels on a GPU | **not run on a GPU yet, no GPU figure exists**; results checked in Triton's "
        "interpreter, compiled ahead of time for sm_80, sm_90, sm_100 and gfx942 |",
        "| transformers, diffusers, vLLM, FlexAttention | tested on a CPU, in small models of random weights |",
        "| macOS, Windows | pure Python and torch; not tested there |",
        "",
        f"Measured on {where(whole)}.",
    ]


def where(whole: Result) -> str:
    facts = whole["machine"]
    return f"{facts['cores']} cores of {facts['processor']}, torch {facts['torch']}"


if __name__ == "__main__":
    main()

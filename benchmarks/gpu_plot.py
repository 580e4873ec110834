"""Draws results of `gpu.py`, how many times as fast as its peers each pattern is: `python gpu_plot.py FILE.json`."""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")  # before anything asks for a screen
from gpu_contest import FLASH, FLEX, Record
from gpu_report import PASSES, Results, geometric_mean, ratio
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

FASTER, SLOWER, INK = "#2a9d6f", "#c8553d", "#333333"
COLORS = ("#9ecae1", "#4292c6", "#08306b")
"""Of the lengths, the shortest first."""
MARKERS = {64: "o", 128: "s"}
"""Of the head dims; others have a triangle."""
FLASH_MARKS = {"s": 34, "color": INK, "marker": "x", "linewidths": 1.2, "zorder": 4}
TICKS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256)


def draw(results: Results, path: Path) -> None:
    """Forward and backward beside each other: a bar for the mean of a pattern, a mark for each of its cases."""
    cases = results["cases"]
    names = list(dict.fromkeys(case["pattern"] for case in cases))
    height = 0.36 * len(names) + 2.2
    figure, panels = pyplot.subplots(1, len(PASSES), figsize=(12, height), sharex=True, sharey=True)
    for axes, part in zip(panels, PASSES, strict=True):
        draw_pass(axes, names, cases, part)
    found = [ratio(case, peer, part) for case in cases for peer in (FLEX, FLASH) for part in PASSES]
    for axes in panels:
        scale(axes, [each for each in found if each is not None])
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    explain(panels[0], cases)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, frameon=False, fontsize=9)
    what = f"{results['machine']['gpu']}, {results['settings']['dtype']}"
    figure.suptitle(f"maskdsl: times as fast as FlexAttention ({what})", fontsize=12, color=INK)
    figure.tight_layout(rect=(0, 0.8 / height, 1, 1))
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_pass(axes: Axes, names: list[str], cases: list[Record], part: str) -> None:
    axes.set_title(part, fontsize=11, color=INK)
    for row, name in enumerate(names):
        own = [case for case in cases if case["pattern"] == name]
        mean = geometric_mean([found for case in own if (found := ratio(case, FLEX, part)) is not None])
        if mean is None:
            axes.text(1.03, row, "not compared", va="center", fontsize=8, color=INK)
        else:
            axes.barh(row, mean - 1, left=1, height=0.62, color=FASTER if mean >= 1 else SLOWER, alpha=0.45)
        for case in own:
            draw_case(axes, row, case, part, marks(case, cases))


def draw_case(axes: Axes, row: int, case: Record, part: str, marks: dict[str, Any]) -> None:
    against_flex, against_flash = ratio(case, FLEX, part), ratio(case, FLASH, part)
    if against_flex is not None:
        axes.scatter(against_flex, row, **marks)
    if against_flash is not None:
        axes.scatter(against_flash, row, **FLASH_MARKS)


def marks(case: Record, cases: list[Record]) -> dict[str, Any]:
    """How a case is marked: by its length and its head dim."""
    lengths = sorted({each["length"] for each in cases})
    color = COLORS[lengths.index(case["length"]) % len(COLORS)]
    marker = MARKERS.get(case["head_dim"], "^")
    return {"s": 30, "color": color, "marker": marker, "edgecolors": "white", "linewidths": 0.6, "zorder": 3}


def explain(axes: Axes, cases: list[Record]) -> None:
    """What the legend says."""
    ordered = sorted(cases, key=lambda case: (case["length"], case["head_dim"]))
    for case in {(case["length"], case["head_dim"]): case for case in ordered}.values():
        text = f"{case['length']:,} tokens, head dim {case['head_dim']}"
        axes.scatter([], [], label=text, **marks(case, cases))
    axes.scatter([], [], label="the same, to SDPA's flash", **FLASH_MARKS)
    axes.barh([0], [0], color=FASTER, alpha=0.45, label="geometric mean")


def scale(axes: Axes, ratios: list[float]) -> None:
    """Logarithmic, with the equal speed marked."""
    axes.set_xscale("log")
    low, high = min([0.7, *(each / 1.1 for each in ratios)]), max([2.0, *(each * 1.1 for each in ratios)])
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks], fontsize=9)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(1, color=INK, linewidth=1)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    draw(json.loads(source.read_text()), source.with_suffix(".png"))

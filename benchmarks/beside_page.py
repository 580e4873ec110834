"""The page of kernels beside FlexAttention's, docs/kernels-beside-flex.md, from what is recorded. Nothing measures."""

from collections.abc import Iterator
from math import exp, log
from statistics import mean
from typing import Any, NamedTuple

Result = dict[str, Any]

KERNELS = {"forward_kernel": "forward", "query_gradient_kernel": "dQ", "key_gradient_kernel": "dK, dV"}
LOOPS = "full", "partial"
TARGETS = {"sm80": "sm_80 (A100)", "sm90": "sm_90 (H100)", "sm100": "sm_100 (B200)", "gfx942": "gfx942 (MI300)"}
KINDS = "products", "exponentials", "floats", "integers", "copies", "barriers", "other"
WITH_ITS_TILES = "sm90"
"""The target for which the tile that torch takes is compiled, too."""
SHOWN = "sm90", "128"
"""The target and head dim whose loops are shown by kind of instruction."""
BEHIND = 1.02
"""From this ratio on ours is behind."""
HEAD = """# Kernels beside FlexAttention's

The kernels that maskdsl generates, and those that FlexAttention's templates of torch {torch} give for the same mask,
both compiled by Triton {triton} for GPUs that need not be here, in bf16, for {length:,} tokens. `make beside` compiles
them and writes this page; `benchmarks/results/beside.json` has all figures.

**Nothing on this page is a time.** It counts the machine instructions of a loop for one tile of queries and keys. An
instruction that is not there takes no time, but kernels wait for memory and for each other as well. What a GPU measures
stands in [Measured on a GPU](measured-gpu.md).

- A *full* tile has all its pairs, a *partial* one is masked. Both sides skip empty tiles. Of dense attention ours masks
  the last tile of a row alone, and FlexAttention calls every tile partial, with a mask that is always true.
- FlexAttention's kernels are rendered for lengths that 128 divides, where they check no bounds. Ours serve any length.
- It computes all gradients in one kernel, whose programs are of dQ or of dK and dV: its registers, spills and shared
  memory are of both. Ours are two kernels.
- T5's biases FlexAttention reads from a table by distance, as ours does; the mods are those of
  `benchmarks/gpu/patterns.py`, which the measurements on a GPU take too.
- A count is of one warp (on AMD, one wave), and of the assembler's text: nvdisasm's, or LLVM's for AMD.
- On AMD its template is the one that torch renders for NVIDIA; the two differ in launch configurations.

Ratios are ours over FlexAttention's: below 1, ours takes fewer instructions. Those of at least {behind} are bold.
"""
WHY = """Loops in which ours takes at least two in a hundred more instructions, with our tile on both sides. Three
causes are known:

- Partial tiles of lists (window and sinks, Longformer, images) compare each pair with the lengths as well as with the
  pattern, at every length; FlexAttention's do so only at lengths that 128 does not divide.
- Dense attention masks no tile of FlexAttention's at these lengths. Ours runs its masked loop for the last tile of a
  row alone, where keys may end.
- dK and dV take tiles that spill nothing; those that torch takes are larger, and some spill. The tables with the tile
  that torch takes compare instructions for a pair. On sm_90, where eight warps have 64 keys, both groups of four warps
  compute the same products: 128 keys take half as many for a pair.
"""


class Pair(NamedTuple):
    """Ours and FlexAttention's figures of one kernel, and the tile of ours."""

    tile: list[int]
    ours: Result
    flex: Result | None


def page(record: Result) -> str:
    """The text of the page. `record` is what `beside.json` holds."""
    results = record["results"]
    lines = [HEAD.format(behind=BEHIND, **record), *summary(results), *behind(results)]
    for target, title in TARGETS.items():
        for dim in dims(results, target):
            lines += [f"## {title}, head dim {dim}", ""]
            lines += ["Instructions a tile, with our tile on both sides:", "", *instructions(results, target, dim)]
            lines += [
                "Tile (queries x keys, warps, stages); registers of a thread, bytes spilled, shared memory:",
                "",
                *resources(results, target, dim),
            ]
            if target == WITH_ITS_TILES:
                lines += [
                    "With the tile that torch takes, instructions of a warp for 1,024 pairs:",
                    "",
                    *with_its_tiles(results, target, dim),
                ]
            if (target, dim) == SHOWN:
                lines += by_kind(results)
    return "\n".join(lines).rstrip() + "\n"


def dims(results: Result, target: str) -> list[str]:
    return sorted({dim for targets in results.values() for dim in targets.get(target, {})}, key=int)


def pairs(results: Result, target: str, dim: str, flex: str = "flex") -> dict[str, dict[str, Pair]]:
    """By pattern and kernel."""
    return {
        name: {kernel: Pair(each["tile"], each["ours"], each[flex]) for kernel, each in targets[target][dim].items()}
        for name, targets in results.items()
        if dim in targets.get(target, {})
    }


def total(figures: Result, loop: str) -> int:
    """The instructions of a loop."""
    return sum(figures[loop].values())


def ratios(results: Result, target: str, dim: str) -> Iterator[tuple[str, str, str, Pair, float]]:
    """Ours over FlexAttention's instructions, by pattern, kernel and loop, where both have our tile."""
    for name, kernels in pairs(results, target, dim).items():
        for kernel, pair in kernels.items():
            for loop in LOOPS:
                if pair.flex is not None:
                    yield name, kernel, loop, pair, total(pair.ours, loop) / total(pair.flex, loop)


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows)] + [""]


def columns() -> list[tuple[str, str]]:
    return [(kernel, loop) for kernel in KERNELS for loop in LOOPS]


HEADS = ["pattern", *(f"{KERNELS[kernel]}, {loop}" for kernel, loop in columns())]


def marked(ratio: float) -> str:
    return f"**{ratio:.2f}**" if ratio >= BEHIND else f"{ratio:.2f}"


def summary(results: Result) -> list[str]:
    """Geometric means of ratios, how many are behind, and all that spills or is warned of."""
    rows = []
    for target, title in TARGETS.items():
        for dim in dims(results, target):
            every = [*ratios(results, target, dim)]
            means = [
                exp(mean(log(ratio) for _, *key, _, ratio in every if tuple(key) == column)) for column in columns()
            ]
            own = [pair for kernels in pairs(results, target, dim).values() for pair in kernels.values()]
            flex = [pair.flex for pair in own if pair.flex is not None]
            rows.append(
                [
                    f"{title}, {dim}",
                    *map(marked, means),
                    f"{sum(ratio >= BEHIND for *_, ratio in every)} of {len(every)}",
                    f"{sum(pair.ours['spills'] > 0 for pair in own)} / {sum(each['spills'] > 0 for each in flex)}",
                    f"{sum(bool(pair.ours.get('warnings')) for pair in own)}"
                    f" / {sum(bool(each.get('warnings')) for each in flex)}",
                ]
            )
    heads = ["target, head dim", *HEADS[1:], "behind", "kernels that spill", "serialized products"]
    return [
        "## In short",
        "",
        "Geometric means of ratios over all patterns, with our tile on both sides. The last columns count loops that",
        "are behind, and kernels that spill or whose products `ptxas` serializes (C75xx), ours / FlexAttention's.",
        "",
        *table(heads, rows),
    ]


def behind(results: Result) -> list[str]:
    """The loops in which ours takes more instructions, and of which kinds they are."""
    rows = []
    for target, title in TARGETS.items():
        for dim in dims(results, target):
            for name, kernel, loop, pair, ratio in ratios(results, target, dim):
                if ratio >= BEHIND and pair.flex is not None:
                    rows.append(
                        [
                            f"{title}, {dim}",
                            f"{name}: {KERNELS[kernel]}, {loop}",
                            f"{total(pair.ours, loop)} / {total(pair.flex, loop)}",
                            f"{ratio:.2f}",
                            more(pair.ours[loop], pair.flex[loop]),
                        ]
                    )
    rows.sort(key=lambda row: -float(row[3]))
    heads = ["target, head dim", "loop", "instructions", "ratio", "more of"]
    return ["## Where ours are behind", "", WHY, *(table(heads, rows) if rows else ["Nowhere.", ""])]


def more(ours: Result, flex: Result) -> str:
    """The kinds of which ours takes more instructions, the most first."""
    surplus = {kind: ours.get(kind, 0) - flex.get(kind, 0) for kind in KINDS}
    ordered = sorted(surplus.items(), key=lambda each: -each[1])
    return ", ".join(f"{kind} +{count}" for kind, count in ordered if count > 2)


def instructions(results: Result, target: str, dim: str) -> list[str]:
    def cell(pair: Pair, loop: str) -> str:
        ours = total(pair.ours, loop)
        if pair.flex is None:
            return f"{ours} / -"
        flex = total(pair.flex, loop)
        return f"{ours} / {flex} ({marked(ours / flex)})"

    every = pairs(results, target, dim)
    rows = [[name, *(cell(kernels[kernel], loop) for kernel, loop in columns())] for name, kernels in every.items()]
    return table(HEADS, rows)


def resources(results: Result, target: str, dim: str) -> list[str]:
    def used(figures: Result | None) -> str:
        if figures is None:
            return "-"
        spills = f"**{figures['spills']}**" if figures["spills"] else "0"
        too_much = "" if figures["fits"] else " (too much)"
        warnings = "".join(f", **{code}**" for code in figures.get("warnings", ()))
        return f"{figures['registers']}, {spills}, {round(figures['shared'] / 1024)} KB{too_much}{warnings}"

    def cell(pair: Pair) -> str:
        queries, keys, warps, stages = pair.tile
        return f"{queries} x {keys}, {warps}, {stages}: {used(pair.ours)} / {used(pair.flex)}"

    every = pairs(results, target, dim)
    rows = [[name, *(cell(kernels[kernel]) for kernel in KERNELS)] for name, kernels in every.items()]
    return table(["pattern", *KERNELS.values()], rows)


def with_its_tiles(results: Result, target: str, dim: str) -> list[str]:
    """Ours with our tile, FlexAttention's with the one that torch takes: instructions of a warp for 1,024 pairs."""

    def rate(figures: Result, tile: list[int], loop: str) -> float:
        queries, keys, warps, _ = tile
        return total(figures, loop) * warps * 1024 / (queries * keys)

    def cell(pair: Pair, loop: str) -> str:
        ours = rate(pair.ours, pair.tile, loop)
        if pair.flex is None:
            return f"{ours:.0f} / -"
        flex = rate(pair.flex, pair.flex["tile"], loop)
        return f"{ours:.0f} / {flex:.0f} ({marked(ours / flex)})"

    every = pairs(results, target, dim, "flex_own")
    rows = [[name, *(cell(kernels[kernel], loop) for kernel, loop in columns())] for name, kernels in every.items()]
    tiles = {
        kernel: sorted({tuple(each[kernel].flex["tile"]) for each in every.values() if each[kernel].flex is not None})
        for kernel in KERNELS
    }
    said = "; ".join(
        f"{KERNELS[kernel]} {' or '.join(f'{q} x {k}, {warps}, {stages}' for q, k, warps, stages in each)}"
        for kernel, each in tiles.items()
    )
    spilling = sum(bool(pair.flex and pair.flex["spills"]) for kernels in every.values() for pair in kernels.values())
    serialized = sum(
        bool(pair.flex and pair.flex.get("warnings")) for kernels in every.values() for pair in kernels.values()
    )
    counts = (
        f"Of {len(KERNELS) * len(every)} kernels {spilling} spill, and the products of {serialized} are serialized."
    )
    return [*table(HEADS, rows), f"Its tiles: {said}. {counts}", ""]


def by_kind(results: Result) -> list[str]:
    """The loops of one target and head dim by kind of instruction."""
    target, dim = SHOWN
    lines = []
    for kernel, title in KERNELS.items():
        for loop in LOOPS:
            rows = []
            for name, kernels in pairs(results, target, dim).items():
                ours, flex = kernels[kernel].ours[loop], (kernels[kernel].flex or {}).get(loop, {})
                rows.append([name, *(f"{ours.get(kind, 0)} / {flex.get(kind, 0)}" for kind in KINDS)])
            lines += [f"{title}, {loop} tiles, by kind:", "", *table(["pattern", *KINDS], rows)]
    lines.append(
        "Integers are addresses, masks and moves between registers; barriers are waits of every kind; others, branches."
    )
    return [*lines, ""]

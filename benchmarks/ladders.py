"""Derives the tile table: launch configurations compiled ahead of time, judged by their machine code.

`python benchmarks/ladders.py` compiles, for each target, head dim and kernel, a few configurations and those of the
present table, for a closed form and for heavy lists, writes `benchmarks/results/ladders.json`, and prints for each
pattern the configurations from the fastest on, what their loops do, and which one the present ladder takes. `--targets
sm90`, `--dims 128`, `--kernels key_gradient_kernel` and `--patterns na2 alibi` compile others, or fewer, and leave the
rest of the record as it is; `--show` compiles nothing.

A score is the clocks of all tiles of a pattern, full and partial ones by their loops (`clocks.py`), and of the start
and the end of its programs, over those of the best configuration that spills nothing. Heavier patterns are compiled
with the fastest few of lighter ones, without those that spill inside a loop. The model is no measurement: scores of
which one is at most a fifth above the other count as equal.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ahead import compile_choice, spilled_words
from clocks import PROCESSORS, figures, other_block, own_block
from rich.console import Console
from rich.progress import track
from rich.table import Table

import maskdsl
from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice, first_choice, ladder
from maskdsl.emit.plan import make_plan
from maskdsl.runtime.backends.programs import PROGRAM
from maskdsl.runtime.backends.tuning import failures

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
RESULTS = HERE / "results" / "ladders.json"
EQUAL = 1.2
"""Scores whose quotient is at most this are equal."""
PATTERNS = {
    "causal_dense": "language/causal",
    "dense": "language/dense",
    "alibi": "language/alibi",
    "sliding_window": "language/sliding_window",
    "longformer": "language/longformer",
    "packed": "language/packed",
    "na2": "vision/neighborhood",
    "bigbird": "language/bigbird",
}
"""Files by pattern, from light work to heavy."""
SELECTED = ("causal_dense", "bigbird")
"""A light and a heavy one: those of the record, at least."""
DIMS = (64, 128, 256)
CODE = {"sm89": "sm80"}
"""Targets whose instructions are those of another, and their ladders: 8.6, 8.9 and 12.x have less memory alone."""
FASTEST = 3
"""Of a pattern's candidates so many are compiled for the next, heavier one."""
DOCUMENT = 1024
"""Tokens of a packed document."""
SIZES = {
    KernelName.FORWARD: {
        64: ((128, 128, 8, 2), (128, 64, 8, 3), (128, 64, 8, 2), (128, 64, 4, 2), (64, 64, 4, 2), (128, 32, 8, 3)),
        128: ((128, 128, 8, 2), (128, 64, 8, 3), (128, 64, 8, 2), (128, 64, 4, 2), (64, 64, 4, 2), (128, 32, 8, 3)),
        256: ((128, 64, 8, 2), (64, 64, 8, 2), (128, 32, 8, 2), (64, 32, 4, 2)),
    },
    KernelName.QUERY_GRADIENT: {
        64: ((128, 64, 8, 2), (64, 64, 4, 2), (128, 32, 8, 2), (128, 32, 4, 2), (64, 32, 4, 2)),
        128: ((128, 64, 8, 3), (128, 64, 8, 2), (128, 32, 8, 2), (64, 64, 8, 2), (64, 64, 4, 2), (64, 32, 4, 2)),
        256: ((128, 64, 8, 2), (64, 64, 8, 2), (128, 32, 8, 2), (64, 32, 8, 2), (32, 32, 8, 2), (32, 16, 4, 1)),
    },
    KernelName.KEY_GRADIENT: {
        64: ((64, 128, 8, 2), (32, 128, 8, 2), (64, 64, 4, 2), (32, 64, 4, 2), (32, 64, 8, 2)),
        128: ((64, 128, 8, 2), (32, 128, 8, 2), (16, 128, 8, 2), (64, 64, 8, 2), (32, 64, 8, 2), (32, 64, 4, 2)),
        256: ((64, 64, 8, 2), (32, 64, 8, 2), (64, 32, 8, 2), (32, 32, 8, 2), (16, 32, 4, 1)),
    },
}
"""Queries, keys, warps and stages of the candidates, by kernel and head dim up to which they are."""

Cell = tuple[str, int, KernelName]
"""A target, a head dim and a kernel: each has a ladder for each kind of work."""


def main() -> None:
    arguments = parsed()
    record: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"results": {}}
    cells = [
        (target, dim, kernel) for target in arguments.targets for dim in arguments.dims for kernel in arguments.kernels
    ]
    for cell in [] if arguments.show else track(cells, "compiling"):
        of_cell = record["results"].setdefault(name_of(cell), {})
        of_cell |= compiled_cell(cell, sorted(arguments.patterns, key=[*PATTERNS].index))
        RESULTS.write_text(text_of(record | {"triton": version("triton"), "dtype": "bf16"}))
    for cell in (cell for cell in cells if name_of(cell) in record["results"]):
        Console(width=160).print(shown(cell, record["results"][name_of(cell)]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--targets", nargs="*", choices=PROCESSORS, default=[*PROCESSORS])
    parser.add_argument("--dims", nargs="*", type=int, default=DIMS)
    parser.add_argument("--kernels", nargs="*", type=KernelName, default=[*KernelName])
    parser.add_argument("--patterns", nargs="*", choices=PATTERNS, default=SELECTED)
    parser.add_argument("--show", action="store_true")
    return parser.parse_args()


def name_of(cell: Cell) -> str:
    target, dim, kernel = cell
    return f"{target} {dim} {kernel}"


def text_of(record: dict[str, Any]) -> str:
    """As JSON: what a pattern uses with one configuration is one line, so that changes can be read."""

    def lines(value: Any, depth: int) -> str:
        if depth == 0 or not isinstance(value, dict) or not value:
            return json.dumps(value)
        inner = (f"{json.dumps(key)}: {lines(each, depth - 1)}" for key, each in value.items())
        return "{\n" + ",\n".join(inner) + "}"

    return lines(record, 4) + "\n"


def compiled_cell(cell: Cell, patterns: Iterable[str]) -> dict[str, Any]:
    """The figures of patterns, light ones first, by configuration as `spelled`; empty where it cannot run."""
    of_cell: dict[str, Any] = {}
    tried = candidates(cell)
    for pattern in patterns:
        used = {choice: figures_of(cell, pattern, choice) for choice in tried}
        for choice in rungs(cell, pattern):
            if choice not in used:
                used[choice] = figures_of(cell, pattern, choice)
            if keeps(used[choice]):
                break
        lean = [choice for choice in tried if is_candidate(used[choice])]
        tried = sorted(lean, key=lambda choice, used=used: used[choice]["clocks"])[:FASTEST]
        of_cell[pattern] = {spelled(choice): used[choice] for choice in used}
    return of_cell


def candidates(cell: Cell) -> list[TileChoice]:
    """The configurations to compile for a cell beside those of the table."""
    target, dim, kernel = cell
    sizes = [TileChoice(*each) for each in SIZES[kernel][min(size for size in SIZES[kernel] if size >= dim)]]
    match target:
        case "gfx942":  # copies go through registers: a second stage costs some
            stages = (2, 1) if dim <= 64 else (1,)
            sizes = [each._replace(warps=4, stages=each_stages) for each in sizes for each_stages in stages]
        case "sm100":  # of 4 warps each reads a quarter of the tensor memory
            sizes += [each._replace(warps=4) for each in sizes if own_block(kernel, each) == 128]
    room = PROCESSORS[target].shared // (2 * 2 * dim)
    return [*dict.fromkeys(each for each in sizes if each.stages * other_block(kernel, each) <= room)]


def figures_of(cell: Cell, pattern: str, choice: TileChoice) -> dict[str, Any]:
    """The figures of one kernel of one pattern, with the `clocks` of all its tiles, in thousands; empty if it fails."""
    target, dim, kernel = cell
    try:
        plan = make_plan(mask_of(pattern).ir)
        compiled = compile_choice(plan, CODE.get(target, target), (dim, dim), torch.bfloat16, kernel, choice, False)
    except failures():
        return {}
    if compiled.usage.shared > PROCESSORS[target].shared:
        return {}
    found = figures(compiled, target, kernel, choice, dim)
    rows, full, partial = tiles_of(pattern, choice.block, kernel)
    clocks = full * found.full.clocks + (partial + PROGRAM * rows) * found.partial.clocks
    return asdict(found) | {"clocks": round(clocks / 1000)}


@cache
def mask_of(pattern: str) -> maskdsl.Mask:
    return maskdsl.load(EXAMPLES / f"{PATTERNS[pattern]}.attn")[pattern].bind()


def tiles_of(pattern: str, block: tuple[int, int], kernel: KernelName) -> tuple[int, int, int]:
    """Programs of a head, full tiles and partial ones."""
    mask = mask_of(pattern)
    inputs = {each.name: np.arange(mask.query_length) // DOCUMENT for each in mask.ir.inputs if each.is_coordinate}
    tiles = mask.tiles(block=block, **inputs)
    rows = tiles.key_blocks if kernel is KernelName.KEY_GRADIENT else tiles.query_blocks
    return rows, tiles.full_count(), tiles.partial_count()


def rungs(cell: Cell, pattern: str) -> tuple[TileChoice, ...]:
    """The present ladder of a pattern."""
    target, dim, kernel = cell
    return ladder(Architecture(CODE.get(target, target)), kernel, dim, 2, make_plan(mask_of(pattern).ir).work)


def taken(cell: Cell, pattern: str, used: Mapping[str, Any]) -> TileChoice:
    """The configuration that calls take, by the present ladder and recorded figures."""
    return first_choice(
        [each for each in rungs(cell, pattern) if spelled(each) in used],
        lambda each: bool(used[spelled(each)]),
        lambda each: spilled_words(used[spelled(each)]["spills"], CODE.get(cell[0], cell[0])),
    )


def keeps(used: Mapping[str, Any]) -> bool:
    """Whether a kernel runs and keeps all values in registers."""
    return bool(used) and used["spills"] == 0


def is_candidate(used: Mapping[str, Any]) -> bool:
    """Whether a kernel runs, and keeps values in registers inside of its loops."""
    return bool(used) and used["full"]["spills"] == used["partial"]["spills"] == 0


def spelled(choice: TileChoice) -> str:
    """Queries, keys, warps and stages: `128x64 8w 3s`."""
    return f"{choice.query_block}x{choice.key_block} {choice.warps}w {choice.stages}s"


def ranked(used: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Scores and configurations without spills, from the fastest on, whose score is 1."""
    clocks = sorted((each["clocks"], choice) for choice, each in used.items() if keeps(each))
    return [(number / clocks[0][0], choice) for number, choice in clocks]


def shown(cell: Cell, of_cell: Mapping[str, Any]) -> Table:
    """The ranks of each pattern's configurations, and which the present table takes."""
    columns = (
        "pattern",
        "configuration",
        "score",
        "registers",
        "spills",
        "KiB",
        "programs",
        "full",
        "partial",
        "products",
    )
    table = Table(*columns, title=name_of(cell))
    for pattern, used in of_cell.items():
        present = spelled(taken(cell, pattern, used))
        scores = {choice: f"{score:.2f}" for score, choice in ranked(used)}
        spilling = {choice: "spills" if each else "does not run" for choice, each in used.items()}
        for choice, score in (scores | {each: spilling[each] for each in spilling if each not in scores}).items():
            table.add_row(
                pattern, f"{choice} (present)" if choice == present else choice, score, *cells_of(used[choice])
            )
        table.add_section()
    return table


def cells_of(used: Mapping[str, Any]) -> Iterator[str]:
    """Why a configuration has its score: instructions are those of a thread for 1,000 pairs of a tile."""
    if used:
        full, partial = used["full"], used["partial"]
        yield from map(str, (used["registers"], used["spills"], used["shared"] // 1024, used["programs"]))
        yield from (f"{each['instructions']} ({each['clocks']:.0f})" for each in (full, partial))
        yield full["products"] + (", copies in turn" if not full["asynchronous"] else "")


if __name__ == "__main__":
    main()

"""Our kernels beside FlexAttention's, compiled ahead of time for GPUs that need not be here: `make beside`.

Writes `benchmarks/results/beside.json` and the page docs/kernels-beside-flex.md. For each pattern of `gpu/patterns.py`,
target, head dim and kernel, in bf16: the tile that our calls take; what the kernel uses of a GPU, the warnings of
`ptxas` on sm90, and the instructions of its loops over full and over partial tiles by kind; the same of FlexAttention's
kernel, as the installed torch renders it, with our tile and, on sm90, with the one that torch takes.

    python benchmarks/beside.py                        all
    python benchmarks/beside.py --only causal ALiBi    these patterns anew; all others are kept
    python benchmarks/beside.py --page                 the page alone, of what is recorded
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from ahead import KERNELS, SHARED, Compiled, choose_ahead, machine_code, product_warnings
from assembly import kinds_of_loops
from beside_page import WITH_ITS_TILES, page
from flex_kernels import FlexCall, compile_flex
from gpu.patterns import ENTRIES, Size, named
from rich.progress import track

from maskdsl.analysis.cost.tile_table import KernelName, TileChoice
from maskdsl.runtime.backends.tuning import failures

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "beside.json"
PAGE = ROOT / "docs" / "kernels-beside-flex.md"
DIMS = {"sm80": (64, 128), "sm90": (64, 128), "sm100": (64, 128), "gfx942": (64,)}
"""Head dims on each target."""
SIZE = Size(4096, 4, torch.device("cpu"))
FORWARD, QUERY_GRADIENT, KEY_GRADIENT = map(KernelName, KERNELS)
NAMES = tuple(each.name for each in ENTRIES if each.name != "Hilbert window")
"""The patterns: a dozen. To FlexAttention a window over places along a curve is one over tokens."""

Loops = list[dict[str, int]]
Case = tuple[str, str, int]
"""A pattern, a target and a head dim."""
Options = frozenset[tuple[str, int]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="write the page alone, of what is recorded")
    arguments = parser.parse_args()
    if not arguments.page:
        record(arguments.only, arguments.processes)
    PAGE.write_text(page(json.loads(RESULTS.read_text())))


def record(only: list[str] | None, processes: int) -> None:
    """Records cases anew as they come, so that one that fails spoils none; what is recorded of others is kept."""
    results: dict[str, Any] = json.loads(RESULTS.read_text())["results"] if RESULTS.exists() else {}
    names = [name for name in NAMES if only is None or name in only]
    cases = [(name, target, dim) for name in names for target, dims in DIMS.items() for dim in dims]
    facts = {**{name: version(name) for name in ("triton", "torch")}, "dtype": "bf16", "length": SIZE.length}
    with get_context("spawn").Pool(processes) as pool:
        for (name, target, dim), rows in track(pool.imap(compared, cases), "compiling", total=len(cases)):
            results.setdefault(name, {}).setdefault(target, {})[str(dim)] = rows
            ordered = {name: results[name] for name in NAMES if name in results}
            RESULTS.write_text(text_of({**facts, "results": ordered}))


def text_of(whole: Mapping[str, Any]) -> str:
    """As JSON: what one kernel uses is one line, so that changes can be read."""

    def lines(value: Any, depth: int) -> str:
        if depth == 0 or not isinstance(value, dict):
            return json.dumps(value)
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {lines(each, depth - 1)}" for key, each in value.items()) + "\n}"

    return lines(whole, 6) + "\n"


def compared(case: Case) -> tuple[Case, dict[str, Any]]:
    """What our kernels and FlexAttention's use in one case, by kernel."""
    name, target, dim = case
    ours = {kernel: our_kernel(name, target, dim, kernel) for kernel in map(KernelName, KERNELS)}
    tiles = {kernel: tile for kernel, (tile, _) in ours.items()}
    call = flex_call(name, dim)
    return case, {
        str(kernel): {
            "tile": numbers(tile),
            "ours": figures(compiled, target, usual_loops(compiled)),
            "flex": flex_figures(call, target, kernel, flex_options(kernel, tiles)),
            **({"flex_own": flex_figures(call, target, kernel)} if target == WITH_ITS_TILES else {}),
        }
        for kernel, (tile, compiled) in ours.items()
    }


def our_kernel(name: str, target: str, dim: int, kernel: KernelName) -> tuple[TileChoice, Compiled]:
    """The kernel of a pattern as calls run it, with its tile."""
    return choose_ahead(named(name).mask(SIZE).ir, target, (dim, dim), torch.bfloat16, kernel)


def numbers(tile: TileChoice) -> list[int]:
    """Queries, keys, warps and stages of a tile, as they are recorded."""
    return [*tile.block, tile.warps, tile.stages]


@cache
def flex_call(name: str, dim: int) -> FlexCall:
    entry = named(name)
    inputs = entry.inputs(SIZE)
    mods = entry.mask_mod(SIZE, inputs), entry.score_mod(SIZE, inputs)
    return FlexCall(*mods, SIZE.length, dim, entry.scale, SIZE.heads)


def flex_options(kernel: KernelName, tiles: Mapping[KernelName, TileChoice]) -> Options:
    """The options with which FlexAttention's kernels have our tiles; gradients share the warps and stages of one."""
    forward, query, key = (tiles[each] for each in (FORWARD, QUERY_GRADIENT, KEY_GRADIENT))
    backward = tiles[KEY_GRADIENT if kernel is KEY_GRADIENT else QUERY_GRADIENT]
    blocks = {"M1": key.query_block, "N1": key.key_block, "M2": query.query_block, "N2": query.key_block}
    options = {f"bwd_BLOCK_{name}": size for name, size in blocks.items()}
    options |= {"fwd_BLOCK_M": forward.query_block, "fwd_BLOCK_N": forward.key_block}
    for name, tile in {"fwd": forward, "bwd": backward}.items():
        options |= {f"{name}_num_warps": tile.warps, f"{name}_num_stages": tile.stages}
    return frozenset(options.items())


def flex_figures(
    call: FlexCall, target: str, kernel: KernelName, options: Options = frozenset()
) -> dict[str, Any] | None:
    """What FlexAttention's kernel uses, with the tile of its own; None if it cannot be compiled so."""
    try:
        found = compile_flex(call, target, kernel is not FORWARD, options)
    except failures():
        return None
    blocks = {FORWARD: ("M", "N"), QUERY_GRADIENT: ("M2", "N2"), KEY_GRADIENT: ("M1", "N1")}[kernel]
    tile = [
        *(found.options[f"BLOCK_{each}"] for each in blocks),
        found.options["num_warps"],
        found.options["num_stages"],
    ]
    loops = usual_loops(found.compiled)
    own = loops if kernel is FORWARD else gradient_loops(loops)[kernel]
    return {"tile": tile, **figures(found.compiled, target, own)}


@cache
def usual_loops(compiled: Compiled) -> Loops:
    """The kinds of instructions of the loops over tiles, without those that take no exponentials."""
    loops = kinds_of_loops(machine_code(compiled))
    most = max(each.get("exponentials", 0) for each in loops)
    return [each for each in loops if 4 * each.get("exponentials", 0) >= most]


def gradient_loops(loops: Loops) -> dict[KernelName, Loops]:
    """The loops of FlexAttention's gradients by our kernel for the same, which are in one half of the text each.

    Those of dK and dV calculate more for each exponential: limits of rows are there for each tile.
    """
    halves = loops[: len(loops) // 2], loops[len(loops) // 2 :]
    first, second = (min(each["floats"] / each["exponentials"] for each in half) for half in halves)
    assert first != second, loops
    are_keys_last = second > first
    return {KEY_GRADIENT: halves[are_keys_last], QUERY_GRADIENT: halves[not are_keys_last]}


def figures(compiled: Compiled, target: str, loops: Loops) -> dict[str, Any]:
    """What one kernel uses; its shortest loop is that over full tiles, its longest that over partial ones."""
    ordered = sorted(loops, key=lambda each: sum(each.values()))
    return {
        **asdict(compiled.usage),
        "fits": compiled.usage.shared <= SHARED[target],
        **({"warnings": product_warnings(compiled)} if target == "sm90" else {}),
        "full": ordered[0],
        "partial": ordered[-1],
    }


if __name__ == "__main__":
    main()

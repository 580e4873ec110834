"""Compiles kernels of a few examples ahead of time under several versions of Triton: `make versions`.

Each version is fetched once, alone, into `build/triton-VERSION`, and stands in front of the installed one. Prints a
table of what compiled for which GPU, with the first line of what went wrong elsewhere; ends with 1 if anything did.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

import maskdsl
from maskdsl.analysis.cost.tile_table import Architecture, KernelName, TileChoice, ladder
from maskdsl.emit.plan import make_plan
from maskdsl.ir.mask import MaskIR
from maskdsl.runtime.backends.tile_choice import choices_of

VERSIONS = ("3.4.0", "3.6.0", "3.7.1", "3.9.0")
ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
CHOSEN = {
    "language/sliding_window": "sliding_window",
    "language/packed": "packed",
    "language/t5": "t5",
    "vision/hilbert_window": "hilbert_layout",
    "routing/moba": "moba",
}
"""Patterns by file: a closed form, tiles found by a kernel, a table of pairs, tables of tokens, a route."""

Found = dict[str, list[str]]
"""What went wrong, by target; empty where all kernels compiled."""


def main() -> int:
    table = Table("Triton", "sm80", "sm90", "sm100", "gfx942", title=f"{len(CHOSEN)} patterns, all their kernels")
    failed = False
    for version in VERSIONS:
        found = under(version)
        failed |= any(found.values())
        table.add_row(version, *(shown(wrong) for wrong in found.values()))
    Console().print(table)
    return int(failed)


def shown(wrong: list[str]) -> str:
    return f"{len(wrong)} failed: {wrong[0]}" if wrong else "compiled"


def under(version: str) -> Found:
    """What compiles in a process that has this version."""
    folder = ROOT / "build" / f"triton-{version}"
    if not (folder / "triton").exists():
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*install, f"triton=={version}"], check=True)
    environment = {**os.environ, "PYTHONPATH": str(folder), "TRITON_CACHE_DIR": str(folder / "cache")}
    if version == "3.4.0":
        # It links for AMD with the linker of ROCm, which need not be here: what is looked at comes before linking.
        environment.setdefault("TRITON_HIP_LLD_PATH", "/bin/true")
    command = [sys.executable, __file__, version]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: Found = json.loads(ended.stdout.splitlines()[-1])
    return found


def compiled(version: str) -> Found:
    """What goes wrong with the version of Triton that this process has."""
    import triton  # late: the version that was asked for, in its own process alone
    from ahead import TARGETS  # late: imports Triton

    assert triton.__version__ == version, f"there is Triton {triton.__version__}"
    return {target: list(mistakes(target)) for target in TARGETS}


def mistakes(target: str) -> Iterator[str]:
    from ahead import compile_selection, kernel_names  # late: imports Triton

    for file, name in CHOSEN.items():
        mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=4).ir
        for kernel in kernel_names(make_plan(mask)):
            error = mistake(mask, target, kernel, 64, choices(mask, target, kernel))
            if error:
                yield f"{name}, {kernel}: {error}"
        for kernel in KernelName:
            described = [
                each
                for each in choices_of(make_plan(mask), Architecture(target), kernel, 128, 2, True)
                if each.descriptors
            ]
            error = mistake(mask, target, kernel, 128, described)
            if error:
                yield f"{name}, {kernel} by descriptors: {error}"
        try:
            compile_selection(mask, target)
        except Exception as failure:
            yield f"{name}, selection: {type(failure).__name__}: {str(failure).strip().splitlines()[-1]}"


def choices(mask: MaskIR, target: str, kernel: str) -> tuple[TileChoice, ...]:
    """The ladder of a kernel; those that have none compile with that of the forward kernel."""
    tiled = KernelName(kernel) if kernel in set(KernelName) else KernelName.FORWARD
    return ladder(Architecture(target), tiled, 64, 2, make_plan(mask).work)


def mistake(mask: MaskIR, target: str, kernel: str, dim: int, choices: Sequence[TileChoice]) -> str:
    """What goes wrong with the last of the choices where all do; calls step down a ladder, too, where one does."""
    from ahead import compile_ahead  # late: imports Triton

    error = ""
    for choice in choices:
        try:
            compile_ahead(mask, target, dim, "bf16", kernel, choice)
        except Exception as failure:
            error = f"{type(failure).__name__}: {str(failure).strip().splitlines()[-1]}"
        else:
            return ""
    return error


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(compiled(sys.argv[1])))
    else:
        sys.exit(main())

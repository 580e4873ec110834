"""Compiles every example's kernels ahead of time and records what they use of a GPU: `make aot`.

Writes `benchmarks/results/aot.json`: for each pattern, target, head dimension and kernel, in bf16, the registers of a
thread, bytes of registers spilled, bytes of shared memory, and how many matrix instructions the assembly has.
"""

import json
import os
import re
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.progress import track

import maskdsl
from maskdsl.runtime.ahead import KERNELS, TARGETS, compile_ahead

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
RESULTS = HERE / "results" / "aot.json"
DIMS = (64, 128)
MATRIX = re.compile(r"\b(wgmma\.mma_async|tcgen05\.mma|mma\.sync|v_mfma)")

Job = tuple[str, str, str]


def main() -> None:
    files = sorted(EXAMPLES.rglob("*.attn"))
    jobs = [(str(file), name, target) for file in files for name in maskdsl.load(file) for target in TARGETS]
    results: dict[str, Any] = {}
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        for (file, name, target), found in track(pool.imap(used, jobs), "compiling", total=len(jobs)):
            key = f"{Path(file).relative_to(EXAMPLES).with_suffix('')}: {name}"
            results.setdefault(key, {})[target] = found
    whole = {"triton": version("triton"), "dtype": "bf16", "results": results}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(whole, indent=1) + "\n")


def used(job: Job) -> tuple[Job, dict[str, Any]]:
    """What the kernels of one pattern use on one target, by head dimension."""
    file, name, target = job
    mask = maskdsl.load(file)[name].bind(heads=4).ir
    return job, {str(dim): {kernel: figures(mask, target, dim, kernel) for kernel in KERNELS} for dim in DIMS}


def figures(mask: Any, target: str, dim: int, kernel: str) -> dict[str, int]:
    compiled = compile_ahead(mask, target, dim, "bf16", kernel)
    usage = compiled.usage
    return {
        "registers": usage.registers,
        "spills": usage.spills,
        "shared": usage.shared,
        "matrix_instructions": len(MATRIX.findall(compiled.assembly)),
    }


if __name__ == "__main__":
    main()

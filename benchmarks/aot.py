"""Compiles every example's kernels ahead of time and records what they use of a GPU: `make aot`.

With names of patterns behind it, `python benchmarks/aot.py t5 words/shaw`, it records those anew and keeps all others.

Writes `benchmarks/results/aot.json`: for each pattern, target, head dimension and kernel, in bf16, the registers of a
thread, bytes of registers spilled, bytes of shared memory; the matrix instructions in all loops over tiles; the
compares and selects in the first loop, which is that over full tiles; the instructions of each loop in machine code, by
kind too (products, exponentials, floats, integers and addresses, copies, barriers, others);
and for sm90, whether `ptxas` lets matrix products wait for each other. Kernels that load by tensor descriptors have the
same under `by_threads` of the form without, which calls take under `MASKDSL_DESCRIPTORS=0`. Beside these are
`selection`, the first three of the kernels that find what routes look for, and `words`, the patterns of `words.attn` at
64 dims, by the masks whose kernels their calls run; `decode_kernel` is one of these, where calls run it. Examples that
run kernels of several masks, as those with branches do, are left out: `words.attn` has one of each kind.
"""

import json
import os
import sys
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ahead import (
    KERNELS,
    TARGETS,
    Compiled,
    compile_ahead,
    compile_selection,
    is_decoded,
    is_serialized,
    kernel_masks,
    machine_code,
)
from assembly import kinds_of_loops, tile_loops
from rich.progress import track

import maskdsl
from maskdsl.ir.mask import MaskIR

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
RESULTS = HERE / "results" / "aot.json"
WORDS = HERE / "words.attn"
DIMS = {"sm80": (64,), "sm90": (64, 128), "sm100": (64,), "gfx942": (64,)}
"""Head dimensions on each target."""

Job = tuple[str, str, str]


def main() -> None:
    files = sorted(EXAMPLES.rglob("*.attn"))
    patterns = [(str(file), name) for file in files for name in maskdsl.load(file) if is_recorded(file, name)]
    only, of_words = {*sys.argv[1:]}, {f"words/{name}": name for name in maskdsl.load(WORDS)}
    unknown = only - {name for _, name in patterns} - {*of_words}
    if unknown:
        raise SystemExit(f"no kernels are recorded of {', '.join(sorted(unknown))}")
    jobs = [(*pattern, target) for pattern in patterns if not only or pattern[1] in only for target in TARGETS]
    words = [(name, target) for key, name in of_words.items() if not only or key in only for target in TARGETS]
    before: dict[str, Any] = json.loads(RESULTS.read_text()) if only else {}
    results, selection, said = (before.get(each, {}) for each in ("results", "selection", "words"))
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        by_pattern = pool.imap(used, jobs, chunksize=len(TARGETS))
        for (file, name, target), found, selecting in track(by_pattern, "compiling", total=len(jobs)):
            key = key_of(Path(file), name)
            results.setdefault(key, {})[target] = found
            if selecting:
                selection.setdefault(key, {})[target] = selecting
        for (_, target), masks in track(pool.imap(words_used, words), "compiling", total=len(words)):
            for key, found in masks.items():
                said.setdefault(key, {})[target] = found
    whole = {"triton": version("triton"), "dtype": "bf16", "results": results, "selection": selection, "words": said}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(text_of(whole))


def text_of(whole: dict[str, Any]) -> str:
    """As JSON: what a pattern uses on one target is one line, so that changes can be read."""

    def lines(value: Any, depth: int) -> str:
        if depth == 0 or not isinstance(value, dict) or not value:
            return json.dumps(value)
        inner = (f"{json.dumps(key)}: {lines(part, depth - 1)}" for key, part in value.items())
        return "{\n" + ",\n".join(inner) + "}"

    return lines(whole, 3) + "\n"


def key_of(file: Path, name: str) -> str:
    """How the record names an example: `vision/swin: swin`."""
    return f"{file.relative_to(EXAMPLES).with_suffix('')}: {name}"


def is_recorded(file: Path, name: str) -> bool:
    """Whether calls of an example run the kernels of one mask."""
    return [*kernel_masks(maskdsl.load(file)[name].bind(heads=4).ir)] == [""]


def used(job: Job) -> tuple[Job, dict[str, Any], dict[str, Any]]:
    """What the kernels of one pattern use on one target, by head dimension, and those that select."""
    file, name, target = job
    mask = maskdsl.load(file)[name].bind(heads=4).ir
    kernels = {str(dim): {kernel: figures(mask, target, dim, kernel) for kernel in KERNELS} for dim in DIMS[target]}
    return job, kernels, selecting(mask, target)


def words_used(job: tuple[str, str]) -> tuple[tuple[str, str], dict[str, Any]]:
    """What the kernels of one pattern of `words.attn` use on one target, by head dimension, for each of its masks."""
    name, target = job
    masks = kernel_masks(maskdsl.load(WORDS)[name].bind(heads=4).ir)
    return job, {f"{name} {what}".strip(): {"64": mask_figures(mask, what, target, 64)} for what, mask in masks.items()}


def mask_figures(mask: MaskIR, what: str, target: str, dim: int) -> dict[str, Any]:
    """Those of the kernels that calls run for one mask: of masses the backward pass alone, with their table."""
    is_masses = what.startswith("masses")
    kernels = {kernel: figures(mask, target, dim, kernel, is_masses) for kernel in KERNELS[is_masses:]}
    if is_decoded(what) and not mask.keys.is_pooled:
        kernels["decode_kernel"] = asdict(compile_ahead(mask, target, dim, "bf16", "decode_kernel").usage)
    return kernels


def selecting(mask: MaskIR, target: str) -> dict[str, Any]:
    """What the kernels that find pairs use, by head dimension; nothing where there are none."""
    found = {str(dim): compile_selection(mask, target, dim) for dim in DIMS[target] if mask.routed}
    return {
        dim: {name: asdict(each.usage) for name, each in kernels.items()} for dim, kernels in found.items() if kernels
    }


def figures(mask: MaskIR, target: str, dim: int, kernel: str, input_gradients: bool = False) -> dict[str, Any]:
    """What one kernel uses, and where it loads by descriptors, what it would use without."""
    by_default, by_threads = (
        partial(compile_ahead, mask, target, dim, "bf16", kernel, input_gradients=input_gradients, descriptors=each)
        for each in (True, False)
    )
    compiled = by_default()
    return {
        **figures_of(compiled, target),
        **({"by_threads": figures_of(by_threads(), target)} if compiled.loads_by_descriptors else {}),
    }


def figures_of(compiled: Compiled, target: str) -> dict[str, Any]:
    usage, loops, code = compiled.usage, tile_loops(compiled.assembly), machine_code(compiled)
    return {
        "registers": usage.registers,
        "spills": usage.spills,
        "shared": usage.shared,
        "matrix_instructions": sum(loop.matrix_instructions for loop in loops),
        "matrix_kinds": sorted({kind for loop in loops for kind in loop.kinds}),
        "full_compares": loops[0].compares,
        "full_selects": loops[0].selects,
        "instructions": [loop.instructions for loop in tile_loops(code)],
        "kinds": kinds_of_loops(code),
        **({"serialized": is_serialized(compiled)} if target == "sm90" else {}),
    }


if __name__ == "__main__":
    main()

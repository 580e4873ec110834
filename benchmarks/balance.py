"""How evenly the programs of kernels load the processors of a GPU, by simulation: `python benchmarks/balance.py`.

Programs start in the order that calls give them, each on the first processor that is free. Time is counted in tiles.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heapreplace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import maskdsl
from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.runtime.backends.programs import JOIN, PROGRAM, Calls, Programs, column_programs, row_programs

EXAMPLES = Path(__file__).parents[1] / "examples" / "language"
PROCESSORS = 132
HEADS = 8
KERNELS: dict[str, tuple[Callable[[BlockMap, Calls], Programs], tuple[int, int]]] = {
    "forward": (row_programs, (128, 64)),
    "dkdv": (column_programs, (32, 64)),
}
"""How the programs of a kernel are made, and the queries and keys of its tiles."""
PATTERNS = {
    "longformer": {"size": 1024, "globals": 16},
    "bigbird": {},
    "streaming": {"size": 1024, "sinks": 4},
}


@dataclass(frozen=True)
class Balance:
    """Of one kernel of one pattern; 1.0 is an even load."""

    ratio: float
    """The time of all programs, by that of an even load without any splits."""
    unordered: float
    """The same where programs start by head, and by row from the last to the first or by column."""
    map_seconds: float
    """Processor time of the block map."""
    plan_seconds: float
    """Processor time of its programs, lists of runs included."""


def pattern(name: str, length: int) -> maskdsl.Mask:
    """A pattern of `PATTERNS` for so many tokens."""
    return maskdsl.load(EXAMPLES / f"{name}.attn")[name].bind(n=length, heads=HEADS, **PATTERNS[name])


def packed(length: int, heads: int) -> tuple[maskdsl.Mask, dict[str, NDArray[np.int32]]]:
    """Causal attention inside of documents, and its inputs: one document of 8,192 tokens among many short ones."""
    random, lengths = np.random.default_rng(0), [8192]
    while sum(lengths) < length:
        lengths.append(min(int(random.lognormal(5.5, 1)) + 16, length - sum(lengths)))
    document = np.repeat(np.arange(len(lengths), dtype=np.int32), random.permutation(lengths))
    return maskdsl.load(EXAMPLES / "packed.attn")["packed"].bind(n=length, heads=heads), {"document": document}


def balance(mask: maskdsl.Mask, kernel: str, splits: bool = True, **inputs: NDArray[np.int32]) -> Balance:
    """The balance of a kernel of `KERNELS`, of one batch entry, where rows can be split or not."""
    programs_of, block = KERNELS[kernel]
    calls = Calls(1, mask.heads, mask.heads, PROCESSORS, splits)
    start = time.process_time()
    tiles = mask.tiles(block=block, **inputs)
    middle = time.process_time()
    programs = programs_of(tiles, calls)
    end = time.process_time()
    whole = programs_of(tiles, calls._replace(splits=False))
    head, row = whole.programs[:, 1], whole.programs[:, 2]
    plain = np.lexsort([-row if kernel == "forward" else row, head])
    even = work_of(whole).sum() / PROCESSORS
    joins = [] if programs.merges is None else [JOIN] * len(programs.merges)
    taken = longest(work_of(programs)) + longest(joins)
    return Balance(taken / even, longest(work_of(whole)[plain]) / even, middle - start, end - middle)


def work_of(programs: Programs) -> NDArray[np.int64]:
    """int64 [programs]: the work of each, in tiles."""
    return np.asarray(programs.full_rows[:, 2] + programs.partial_rows[:, 2] + PROGRAM)


def longest(work: Iterable[int] | NDArray[np.int64]) -> int:
    """When the last processor is done with programs of this work."""
    ends = [0] * PROCESSORS
    for each in work:
        heapreplace(ends, ends[0] + int(each))
    return max(ends)


def main() -> None:
    for length in (16_384, 131_072):
        for name in PATTERNS:
            mask = pattern(name, length)
            for kernel in KERNELS:
                found = balance(mask, kernel)
                times = f"map {found.map_seconds * 1000:.0f} ms, plan {found.plan_seconds * 1000:.0f} ms"
                print(f"{name:10} {length:7} {kernel:8} {found.unordered:.2f} -> {found.ratio:.2f}  {times}")
        for heads in (HEADS, 2, 1):  # whose rows are found on the device, and stay whole
            mask, inputs = packed(length, heads)
            for kernel in KERNELS:
                whole, split = (balance(mask, kernel, splits, **inputs) for splits in (False, True))
                ratios = f"{whole.unordered:.2f} -> {whole.ratio:.2f}, were rows split {split.ratio:.2f}"
                print(f"{'packed':10} {length:7} {kernel:8} {ratios}  {heads} heads")


if __name__ == "__main__":
    main()

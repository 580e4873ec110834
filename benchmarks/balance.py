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


def balance(mask: maskdsl.Mask, kernel: str) -> Balance:
    """The balance of a kernel of `KERNELS`, of one batch entry."""
    programs_of, block = KERNELS[kernel]
    calls = Calls(1, mask.heads, mask.heads, PROCESSORS, splits=True)
    start = time.process_time()
    tiles = mask.tiles(block=block)
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


if __name__ == "__main__":
    main()

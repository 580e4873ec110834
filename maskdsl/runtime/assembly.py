"""What the inner loops of compiled kernels are made of, as their text shows: matrix instructions, compares, selects."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

LABEL = re.compile(r"^(\$L__BB\w+|\.LBB\w+):")
BRANCH = re.compile(r"\b(?:bra(?:\.uni)?|s_c?branch\w*)\s+(\$L__BB\w+|\.LBB\w+)")
MATRIX = re.compile(r"\b(wgmma\.mma_async|tcgen05\.mma|mma\.sync|v_mfma)")
COMPARE = re.compile(r"\b(setp?\.|v_cmp)")
SELECT = re.compile(r"\b(selp\.|v_cndmask)")


@dataclass(frozen=True)
class Loop:
    """An innermost loop over tiles."""

    matrix_instructions: int
    kinds: tuple[str, ...]
    """Names of the matrix instructions, sorted."""
    compares: int
    selects: int


def tile_loops(assembly: str) -> tuple[Loop, ...]:
    """The innermost loops of PTX or AMD GCN that have matrix instructions, in the order of the text."""
    lines = assembly.splitlines()
    spans = list(loops(lines))
    innermost = [
        span
        for span in spans
        if not any(other != span and span[0] <= other[0] and other[1] <= span[1] for other in spans)
    ]
    found = (loop("\n".join(lines[first : last + 1])) for first, last in innermost)
    return tuple(each for each in found if each.matrix_instructions)


def loop(body: str) -> Loop:
    matrix = MATRIX.findall(body)
    return Loop(len(matrix), tuple(sorted(set(matrix))), len(COMPARE.findall(body)), len(SELECT.findall(body)))


def loops(lines: list[str]) -> Iterator[tuple[int, int]]:
    """First and last line of every stretch that a branch at its end leads back to the start of."""
    starts: dict[str, int] = {}
    ends: dict[str, int] = {}
    for number, line in enumerate(lines):
        if label := LABEL.match(line):
            starts[label[1]] = number
        elif (branch := BRANCH.search(line)) and branch[1] in starts:
            ends[branch[1]] = number
    return ((starts[label], end) for label, end in ends.items())

"""Run in a process of its own, with TRITON_INTERPRET=1: the order that a kernel gives to programs, against the host's.

Prints how many programs were ordered by their work, or raises.
"""

import numpy as np
import torch

from maskdsl.codegen import program_order
from maskdsl.runtime.backends.programs import PROGRAM, heavy_first
from tests.triton.tiles import nonsense

SHAPES = [
    # entries, heads, heads of programs, rows, classes of entries and of heads, by row, processors
    (2, 4, 4, 5, 2, 4, True, 7),
    (2, 4, 4, 5, 1, 1, True, 3),
    (3, 4, 4, 9, 3, 1, True, 1),
    (1, 1, 1, 1, 1, 1, True, 132),
    (1, 1, 1, 40, 1, 1, True, 2),
    (2, 6, 2, 7, 2, 6, False, 3),
    (2, 6, 2, 7, 1, 6, False, 5),
    (2, 6, 3, 11, 2, 1, False, 132),
    (1, 8, 1, 33, 1, 1, False, 2),
]


def expected(full: np.ndarray, partial: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, bool]:
    """The programs, their lists, and whether any changes its position."""
    entries, heads, program_heads, rows, entry_classes, head_classes, by_row, processors = shape
    programs = np.indices((entries, program_heads, rows)).reshape(3, -1).T
    if by_row:
        programs[:, 2] = rows - 1 - programs[:, 2]
    numbers = np.broadcast_to(
        np.arange(len(full)).reshape(entry_classes, head_classes, rows), (entries, heads, rows)
    ).reshape(entries, program_heads, -1, rows)
    lists = np.array([numbers[entry, head, :, row] for entry, head, row in programs])
    order = heavy_first((full[:, 2] + partial[:, 2])[lists].sum(axis=1) + PROGRAM, processors)[0]
    return programs[order], lists[order].ravel(), bool((np.diff(order) < 0).any())


def main() -> None:
    torch.empty = nonsense  # type: ignore[assignment]
    program_order.LISTS, program_order.ORDERED, program_order.COMPARED = 8, 4, 16
    random, moved = np.random.default_rng(5), 0
    for shape in SHAPES:
        entries, heads, program_heads, rows, entry_classes, head_classes, by_row, processors = shape
        count = entry_classes * head_classes * rows
        for most in (1, 3, 100, 2**27):
            full, partial = random.integers(0, 2**31, (2, count, 3), dtype=np.int32)
            full[:, 2] = random.integers(0, most, count)
            partial[:, 2] = np.where(random.random(count) < 0.3, random.integers(0, most, count), 0)
            tables = torch.from_numpy(full), torch.from_numpy(partial)
            whole = entries, heads, program_heads, rows
            found = program_order.in_order(*tables, entry_classes, head_classes, whole, by_row, processors)
            programs, lists, moves = expected(full, partial, shape)
            for each, right in zip(found, (programs, full[lists], partial[lists]), strict=True):
                assert each.dtype == torch.int32
                assert np.array_equal(each.numpy(), right), (shape, most)
            moved += moves * len(programs)
    assert moved > 500
    print(moved)


if __name__ == "__main__":
    main()

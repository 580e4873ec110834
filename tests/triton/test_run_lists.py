"""What kernels of GPUs read of a block map: lists of runs with a step, against the classes of tiles."""

from pathlib import Path

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL
from maskdsl.runtime.backends.triton_backend import column_runs, runs

COMBS = maskdsl.load(Path(__file__).parent / "combs.attn")
CPU = torch.device("cpu")


def listed(rows: torch.Tensor, list_of_runs: torch.Tensor, row: int, columns: int) -> np.ndarray:
    """How often a row has each column; rows say how many columns that are."""
    counts = np.zeros(columns, dtype=int)
    first, end, number = rows[row].tolist()
    for start, behind, step in list_of_runs[first:end].tolist():
        counts[start:behind:step] += 1
    assert counts.sum() == number
    assert end < len(list_of_runs), "nothing to read ahead"
    return counts


@pytest.mark.parametrize("by", ["row", "column"])
@pytest.mark.parametrize("block", [(16, 32), (32, 16), (24, 40)])
@pytest.mark.parametrize("name", COMBS)
def test_lists_hold_every_tile_once(name: str, block: tuple[int, int], by: str) -> None:
    """Of each head. By rows a last key block that is shorter than the others is partial."""
    tiles = COMBS[name].bind(heads=3).tiles(block=block)
    class_of_head, full_rows, full, partial_rows, partial = (runs if by == "row" else column_runs)(tiles, CPU)
    for head in range(3):
        classes = tiles.classes(head)
        if by == "row" and tiles.key_length % block[1]:
            classes[:, -1] = np.where(classes[:, -1] == EMPTY, EMPTY, PARTIAL)
        classes = classes if by == "row" else classes.T
        rows, columns = classes.shape
        for row in range(rows):
            number = int(class_of_head[0, head]) * rows + row
            assert np.array_equal(listed(full_rows, full, number, columns), classes[row] == FULL)
            assert np.array_equal(listed(partial_rows, partial, number, columns), classes[row] == PARTIAL)


@pytest.mark.parametrize("lists", [runs, column_runs])
def test_combs_have_a_step(lists) -> None:  # type: ignore[no-untyped-def]
    """Of full and of partial tiles, in each of the sizes of tiles that the interpreter takes."""
    for block in ((16, 32), (32, 16)):
        made = [lists(pattern.bind(heads=2).tiles(block=block), CPU) for pattern in COMBS.values()]
        for number in (2, 4):
            assert max(int(each[number][:, 2].max()) for each in made) > 1

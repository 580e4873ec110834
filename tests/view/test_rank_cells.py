"""The ranks of cells, against the ranks of each pair that attends, counted here one after the other."""

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.distributed.homes import ShardScheme
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.view.cells import Scale, count_cells
from maskdsl.view.palette import RANK_COLOURS, SEVERAL
from maskdsl.view.rank_cells import RankColours

TEXT = """
pattern line(n = 1500) {
    space tokens[n]
    attend window(200) or q < 3 or 700 <= q < 703
}
pattern plane(side = 32) {
    space image[y = side, x = side]
    coord curve = hilbert(y, x)
    order by curve
    attend neighborhood((7, 7))
}
"""


def most(teams: np.ndarray) -> int | None:
    """The team of more than half of the tokens of a cell."""
    values, counts = np.unique(teams, return_counts=True)
    return int(values[counts.argmax()]) if 2 * counts.max() > len(teams) else None


def expected(colours: RankColours, dense: np.ndarray, order: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The colour of each cell, from the pairs that attend, `dense`, which are laid out in this order."""
    ranks = colours.ranks
    queries, keys, travels = ranks.queries[order], ranks.keys[order], ranks.travels[order]
    numbers = np.zeros([-(-length // cell) for length, cell in zip(dense.shape, size, strict=True)], dtype=int)
    for row, column in np.ndindex(*numbers.shape):
        rows, columns = (slice(at * cell, (at + 1) * cell) for at, cell in zip((row, column), size, strict=True))
        pairs = dense[rows, columns]
        if not pairs.any():
            continue
        holder = most(keys[columns])
        team = most(queries[rows]) if pairs[~travels[rows]].any() else holder
        pale = 0 if team == holder else RANK_COLOURS
        numbers[row, column] = SEVERAL if team is None else 1 + team % RANK_COLOURS + pale
    return numbers


@pytest.mark.parametrize(
    ("name", "order"), [("line", None), ("plane", None), ("plane", "declared"), ("plane", "by x // 4, y")]
)
@pytest.mark.parametrize("scheme", [ShardScheme("zigzag", travelling=True), ShardScheme("least loaded", 128, 2)])
@pytest.mark.parametrize("size", [(100, 100), (64, 300), (2, 100)])
def test_cells_have_the_ranks_of_their_pairs(
    name: str, order: str | None, scheme: ShardScheme, size: tuple[int, int]
) -> None:
    """Also in an order that is not the plan's."""
    pattern = maskdsl.parse(TEXT)[name]
    plan = pattern.bind(heads=2).shard(4, per_node=2, scheme=scheme)
    mask = pattern.bind(heads=2, **({} if order is None else {"order": order}))
    colours = RankColours.of(plan, 0, mask.ir, {})
    found = tiles(mask.ir, size)
    scale = Scale(size, (1, 1), fitted=False)
    cells = colours.of_cells(count_cells(found.tile_map(0), found.key_blocks, (1, 1)), scale, 0)
    permutation = Coordinates(mask.ir, mask.ir.queries, {}).permutation()
    laid_out = np.arange(mask.query_length) if permutation is None else permutation
    dense = mask.dense()[np.ix_(laid_out, laid_out)]
    np.testing.assert_array_equal(cells.cells, expected(colours, dense, laid_out, size))

"""Which lines make tiles partial, against dense classes."""

import numpy as np
import pytest

import maskdsl
from maskdsl.analysis.counts.clause_tiles import clause_tiles, common
from maskdsl.analysis.tiles.block_map import FULL, PARTIAL, Runs
from maskdsl.analysis.tiles.mask_tiles import tiles

TEXT = """
pattern p(n = 150) {
    space tokens[n]
    attend window(40 + 8 * head)
    attend globals_first(5)
    require k <= q + 30
}
"""


@pytest.mark.parametrize("block", [(16, 16), (32, 8)])
def test_every_line_against_dense_tiles(block):
    mask = maskdsl.parse(TEXT)["p"].bind(heads=3)
    block_map = tiles(mask.ir, block)
    for number, found in enumerate(clause_tiles(mask.ir, block_map)):
        lines = [line for line in TEXT.splitlines() if "attend" in line or "require" in line]
        alone = maskdsl.parse(
            TEXT.replace("attend", "#")
            .replace("require", "#")
            .replace(
                lines[number].replace("attend", "#").replace("require", "#"), lines[number].replace("require", "attend")
            )
        )["p"].bind(heads=3)
        classes = [(tiles(alone.ir, block).classes(head), block_map.classes(head)) for head in range(3)]
        assert found.full == sum(int((own == FULL).sum()) for own, _ in classes)
        assert found.partial == sum(int((own == PARTIAL).sum()) for own, _ in classes)
        assert found.cuts == sum(int(((own == PARTIAL) & (whole == PARTIAL)).sum()) for own, whole in classes)


def test_common_tiles():
    random = np.random.default_rng(3)
    for density in (0, 0.1, 0.5, 0.9, 1):
        a, b = random.random((2, 9, 14)) < np.array([density, 0.5])[:, None, None]
        assert common(Runs.of_dense(a), Runs.of_dense(b), 14) == int((a & b).sum())

"""Copies of queries that stand by what they have chosen: their tiles follow what is selected, not the candidates."""

import numpy as np
import torch

import maskdsl
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.runtime.decode.regrouped import chosen_copies, two_passes
from tests.support.tile_bounds import classes

TEXT = "examples/routing/moba.attn"
BATCH, HEADS, DIM = 1, 2, 16
TILE = 16


def copies_of(n: int, block: int, top: int) -> tuple[maskdsl.ir.mask.MaskIR, dict[str, np.ndarray], int]:
    """The mask over copies, its inputs, and how many groups all queries of all heads have chosen."""
    mask = maskdsl.load(TEXT)["moba"].bind(heads=HEADS, n=n, block=block, top=top)
    passes = two_passes(mask.compile("triton")._compiled)
    assert passes is not None
    q, k = np.random.default_rng(1).normal(size=(2, BATCH, HEADS, n, DIM))
    found = {name: torch.as_tensor(value) for name, value in with_routes(mask.ir, {}, q, k).items()}
    copies = chosen_copies(found["past"], passes.regrouping.copies)
    values = passes.values(copies, found, torch.as_tensor(q))
    inputs = {name: np.asarray(value) for name, value in values.items()}
    return passes.derived.gathered.mask, inputs, int(found["past"].sum())


def visited(n: int, block: int, top: int) -> tuple[int, int, int, int]:
    """Tiles that bounds call possible, those that are not empty, copies, and groups of all heads."""
    mask, inputs, chosen = copies_of(n, block, top)
    exact = tiles(mask, (TILE, TILE), inputs, BATCH)
    possible = needed = 0
    for head in range(HEADS):
        some = classes(mask, inputs, (TILE, TILE), head)[1]
        assert (some | (exact.classes(head) == 0)).all()
        possible += int(some.sum())
        needed += int((exact.classes(head) > 0).sum())
    return possible, needed, chosen, HEADS * (n // block)


def test_visited_tiles_are_those_of_the_choices() -> None:
    for n, block, top in ((512, 32, 3), (512, 64, 3), (1024, 64, 3), (1024, 64, 5)):
        possible, needed, chosen, groups = visited(n, block, top)
        # A tile of copies of one choice takes the keys of a group; one more where two choices meet in a tile.
        assert possible <= (chosen / TILE + 2 * groups) * (block / TILE)
        assert needed <= possible <= 1.05 * needed


def test_twice_the_tokens_visit_twice_the_tiles() -> None:
    """As the choices of each query stay as many; candidates become four times as many."""
    small, large = visited(512, 64, 3)[0], visited(1024, 64, 3)[0]
    assert large < 2.5 * small

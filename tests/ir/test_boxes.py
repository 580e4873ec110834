"""Counts of boolean tables: tiles of selections by their bounds, against the exact ones."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.analysis.tiles.block_map import EMPTY, FULL
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.bind import bind
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from tests.support.drawn import examples
from tests.support.tile_bounds import Array, classes

ROUTING = Path(__file__).parents[2] / "examples" / "routing"
CASES = [
    ("antidiagonal", "antidiagonal", {"n": 256, "block": 16, "stride": 4}),
    ("biformer", "biformer", {"h": 12, "w": 12, "regions": 3, "top": 2}),
    ("clusters", "clusters", {"n": 250}),
    ("dhsa", "dhsa", {"n": 250, "block": 16, "kept": 48, "recent": 16}),
    ("infllm", "infllm", {"n": 250, "block": 16, "top": 3, "size": 8}),
    ("infllm", "nosa", {"n": 256, "block": 16, "top": 3, "size": 8, "fixed": 1}),
    ("knn", "knn", {"n": 128, "top": 3}),
    ("moba", "moba", {"n": 256, "block": 16}),
    ("permuted_blocks", "permuted_blocks", {"n": 256, "segment": 64, "block": 16, "mass": 0.5}),
    ("quest", "quest", {"n": 256, "page": 16, "top": 3}),
    ("proxy", "proxy", {"n": 250, "block": 16, "top": 3}),
    ("proxy", "proxy_budget", {"n": 256, "block": 16}),
    ("routing_transformer", "routing_transformer_union", {"n": 256, "clusters": 8, "size": 24}),
    ("seer", "seer", {"n": 256, "block": 16, "top": 3}),
    ("seer", "seer_above", {"n": 250, "block": 16, "threshold": 0.1}),
    ("sparsifiner", "sparsifiner", {"n": 128, "top": 3}),
    ("vertical_slash", "vertical_slash", {"n": 256, "columns": 4, "diagonals": 4}),
    ("vmoba", "vmoba", {"t": 4, "h": 8, "w": 8, "block_t": 2, "block_h": 4, "block_w": 4, "mass": 0.3}),
]
HEADS, BATCH = 2, 2
NEEDLESS = 0.05
"""Most tiles called partial that are empty or full, as a share of all, where blocks are not those of groups."""


def compare(mask: maskdsl.Mask, inputs: dict[str, Array], block: tuple[int, int]) -> float:
    """The share of tiles that bounds call partial without need, over heads and batch entries."""
    exact = tiles(mask.ir, block, inputs, BATCH)
    shares = []
    for batch, head in np.ndindex(BATCH, mask.heads):
        certain, possible = classes(mask.ir, inputs, block, head, batch, ordered=True)
        found = exact.classes(head, batch)
        assert (possible | (found == EMPTY)).all(), "missed"
        assert (~certain | (found == FULL)).all(), "wrongly full"
        needless = (certain | ~possible) != ((found == FULL) | (found == EMPTY))
        shares.append(needless.mean())
    return float(np.mean(shares))


@pytest.mark.parametrize(("file", "name", "sizes"), CASES, ids=[name for _, name, _ in CASES])
def test_tiles_of_selections_are_tight(file: str, name: str, sizes: dict[str, object]) -> None:
    mask = maskdsl.load(ROUTING / f"{file}.attn")[name].bind(heads=HEADS, **sizes)
    random = np.random.default_rng(7)
    q, k = random.normal(size=(2, BATCH, HEADS, mask.query_length, 16))
    inputs = with_routes(mask.ir, synthetic_inputs(mask.ir, 7, BATCH, 16), q, k)
    if name not in ("dhsa", "nosa", "permuted_blocks"):  # groups of any size; routes that fill tiles together
        assert compare(mask, inputs, (16, 16)) == 0
    for block in ((16, 32), (24, 8), (7, 50)):
        assert compare(mask, inputs, block) < NEEDLESS


TABLES = """
pattern plain(n = 40, c = 5) {
    let groups = (n - 1) // c + 1
    space t[n]
    input chosen: bool[batch, heads, groups, groups]
    attend causal and chosen[batch, head, q // c, k // c]
}
pattern line(n = 40) { space t[n]  input near: bool[heads, 2 * n - 1]  attend near[head, q - k + n - 1] }
pattern beyond(n = 40) { space t[n]  input near: bool[9]  attend not near[q - k] }
pattern cube(n = 40) { space t[n]  input cube: bool[4, 5, 5]  attend cube[q // 10, k // 8, q // 8] or q == k }
"""


@settings(max_examples=examples(60))
@given(
    st.sampled_from(["plain", "line", "beyond", "cube"]),
    st.tuples(st.integers(1, 20), st.integers(1, 20)),
    st.sampled_from([0.02, 0.5, 0.98]),
    st.integers(0, 10**6),
)
def test_given_tables_are_never_misread(name: str, block: tuple[int, int], share: float, seed: int) -> None:
    """Also where indices leave them, of which `Pattern.bind` would tell: these are moved to the border."""
    pattern = maskdsl.parse(TABLES)[name]
    mask = maskdsl.Mask(pattern, bind(pattern.program, name, {}, heads=2))
    random = np.random.default_rng(seed)
    shapes = {each.name: [each.size or BATCH for each in each.dimensions] for each in mask.ir.inputs}
    compare(mask, {name: random.random(shape) < share for name, shape in shapes.items()}, block)

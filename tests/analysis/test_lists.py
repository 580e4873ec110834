"""Tiles, counts and explanations of relations with sparse inputs, against every pair of the plain meaning."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.analysis.counts.key_counts import KeyCounts
from maskdsl.analysis.indices.in_bounds import open_questions
from maskdsl.analysis.tiles.head_classes import find_head_classes, problems
from maskdsl.ir.mask_printer import print_mask
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.inputs import input_arrays

N = 45
LISTED = {
    "edge[q, k]",
    "edge[k, q]",
    "edge[q, k] and causal",
    "edge[q, k] and (q + k) % 3 != 0",
    "edge[q, k] and not edge[k, q]",
    "edge[q, k] or q == k",
    "edge[q, k] or edge[k, q]",
    "edge[q, k] and number[q, k] > 0 or q.place == k.place",
    "edge[(q + 7) % n, k]",
    "edge[q, k] and backward(4) or edge[k, q] and q < 9",
}
OTHERS = {
    "edge[q, k] or backward(3)",
    "not edge[q, k]",
    "not edge[q, k] and causal",
    "edge[q, k] or q < 5",
    "edge[q // 4, k // 4]",
    "edge[q // 16 + 1, k // 9] and not edge[q, k]",
    "edge[q, clamp(k - q, 0, n - 1)]",
    "number[q, k] > 0 if edge[q, k] else q % 5 == k % 7",
}


def mask_of(relation: str, order: str = "declared") -> maskdsl.Mask:
    lines = "space tokens[n]  input edge: sparse[tokens, tokens]  input number: int[edge]  coord place = i % 23"
    pattern = maskdsl.parse(f"pattern p(n = {N}) {{ {lines} attend {relation} }}")["p"]
    return pattern.bind(order=order)


def inputs_of(mask: maskdsl.Mask, density: float) -> dict[str, np.ndarray]:
    random = np.random.default_rng(int(100 * density))
    pairs = np.array(np.nonzero(random.random((N, N)) < density))
    pairs = pairs[:, random.permutation(pairs.shape[1])]
    values = {"edge": pairs, "number": random.integers(-2, 3, pairs.shape[1])}
    return {each.name: values[each.name] for each in mask.inputs}


@pytest.mark.parametrize("relation", sorted(LISTED | OTHERS))
def test_tiles_and_counts_are_exact(relation):
    for order, densities in (("declared", (0.02, 1.0)), ("by shuffle(i, 3)", (0.0, 0.3))):
        mask = mask_of(relation, order)
        for density in densities:
            inputs = inputs_of(mask, density)
            arrays = input_arrays(mask.ir, inputs, ())
            dense = mask.dense(**inputs)
            (problem,) = problems(mask.ir, find_head_classes(mask.ir, arrays).different, (8, 8), arrays)
            assert problem.listed is not None or relation not in LISTED
            position = Coordinates(mask.ir, mask.ir.queries, {}).permutation()
            laid_out = dense if position is None else dense[np.ix_(position, position)]
            assert (KeyCounts.of(mask.ir, arrays).keys(0, 0) == laid_out.sum(1)).all()
            for block in ((8, 8), (16, 5), (64, 64)):
                assert (mask.tiles(block=block, **inputs).classes() == classes(laid_out, *block)).all()
            assert mask.stats(**inputs).total.attended == dense.sum()


def classes(dense: np.ndarray, height: int, width: int) -> np.ndarray:
    """EMPTY, PARTIAL or FULL of each tile."""
    rows, columns = range(0, N, height), range(0, N, width)
    tiles = [[dense[a : a + height, b : b + width] for b in columns] for a in rows]
    return np.array([[int(tile.any()) + int(tile.all()) for tile in row] for row in tiles])


@pytest.mark.parametrize("relation", ["edge[q, k]", "edge[q, k] or q == k", "edge[q // 20, k // 20]"])
def test_tiles_take_time_of_the_list(relation):
    """Of many tokens, where a row of tiles would be 2,048 long; the pairs could not be touched at all."""
    random = np.random.default_rng(0)
    pattern = maskdsl.parse(f"pattern p(n = 2 ** 18) {{ space t[n]  input edge: sparse[t, t]  attend {relation} }}")[
        "p"
    ]
    pairs = random.integers(0, 2**13, (2, 5000))
    tiles = pattern.bind().tiles(edge=pairs)
    assert 1000 < tiles.partial_count() < 60_000


def test_few_tokens_that_attend_everything_are_listed_too():
    mask = mask_of("edge[q, k] or q < 2 or k % 40 == 3")
    inputs = inputs_of(mask, 0.3)
    arrays = input_arrays(mask.ir, inputs, ())
    (problem,) = problems(mask.ir, find_head_classes(mask.ir, arrays).different, (8, 8), arrays)
    assert problem.listed is not None
    assert (mask.tiles(block=8, **inputs).classes() == classes(mask.dense(**inputs), 8, 8)).all()


def test_explanations_name_the_entry():
    mask = mask_of("edge[q, k] and causal")
    text = str(mask.explain(3, 2, edge=np.array([[3], [2]])))
    assert "row 3 has an entry in column 2" in text
    assert "row 3 has no entry in column 1" in str(mask.explain(3, 1, edge=np.array([[3], [2]])))


def test_masks_are_printed_as_declared():
    lines = "space tokens[n]  input edge: sparse[batch, tokens, 4]  input number: float[heads, edge]"
    relation = "edge[batch, q, k % 4] and 0.0 < number[head, batch, q, k % 4] and not edge[batch, k, 2]"
    mask = maskdsl.parse(f"pattern p(n = 9) {{ {lines} attend {relation} }}")["p"].bind()
    text = print_mask(mask.ir)
    for line in ("input edge: sparse[batch, tokens, 4]", "input number: float[heads, edge]", relation):
        assert line in text


def test_numbers_of_pairs_without_an_entry_are_errors_where_they_are_read():
    """Where the relation or a branch says that an entry is stored, nothing is left to check."""
    lines = "space tokens[n]  input edge: sparse[tokens, tokens]  input bias: float[edge]"
    for relation, score, is_open in (
        ("edge[q, k]", "s + bias[q, k]", False),
        ("edge[q, k] and causal", "s + bias[q, k]", False),
        ("edge[q, k] or q == k", "s + (bias[q, k] if edge[q, k] else 0.0)", False),
        ("edge[q, k] or q == k", "s + bias[q, k]", True),
        ("edge[k, q]", "s + bias[q, k]", True),
    ):
        mask = maskdsl.parse(f"pattern p(n = 9) {{ {lines} attend {relation} score {score} }}")["p"].bind()
        assert bool([*open_questions(mask.ir)]) == is_open
        tensors = torch.randn(3, 1, 1, 9, 4)
        given = {"edge": torch.tensor([[0, 2], [1, 2]]), "bias": torch.randn(2)}
        if is_open:
            says = r"(?s)E399.*`bias`.*`edge`.*read for query \d and key \d.*attend edge\[q, k\]"
            with pytest.raises(maskdsl.AttnError, match=says):
                mask.compile()(*tensors, **given)
        else:
            mask.compile()(*tensors, **given)


def test_graphs_are_ordered_by_their_edges():
    """A shuffled ring needs as many tiles in the order of the graph as in that of the ring, in time of the list."""
    n = 16_500
    ring = np.random.default_rng(0).permutation(n)
    pairs = np.stack([np.concatenate([ring, np.roll(ring, 1)]), np.concatenate([np.roll(ring, 1), ring])])
    lines = f"pattern p(n = {n}) {{ space t[n]  input edge: sparse[t, t]  attend edge[q, k] }}"
    best = maskdsl.parse(lines)["p"].bind().best_order(edge=pairs)
    assert best.as_graph is not None and best.positions is not None
    assert best.as_graph.partial_tiles < 500 < 10_000 < best.declared.partial_tiles

"""Block maps of whole masks: orders, inputs, heads and batch entries, against `dense`."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.declared.sequences import Axis, Computed, CoordinateDefinition, Sequence, Space
from maskdsl.ir.expressions import Batch, Coordinate, Head, InSpace, Read, Side, apply
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.ops import Op, Type
from tests.analysis.relations import dense_classes
from tests.support.drawn import examples
from tests.support.masks import both, c, causal, declared, either, grid, k, mask, q, tokens, within
from tests.support.masks import given as given_coordinate

BLOCKS = [(1, 7), (128, 64), (16, 16), (20, 33), (300, 5)]


def token(name):
    return Coordinate(Side.TOKEN, name)


def equal(left, right):
    return apply(Op.EQUAL, left, right)


def blocks_of(side, size):
    return apply(Op.FLOOR_DIVIDE, side, c(size))


def check(pattern, block, inputs=None, permutation=None, batch=1):
    """Every head and batch entry of a map, where tokens are laid out in an order known to the test."""
    inputs = inputs or {}
    result = tiles(pattern, block, inputs)
    for entry, head in np.ndindex(batch, pattern.heads):
        attended = dense(pattern, head=head, batch=entry, inputs=inputs)
        if permutation is not None:
            attended = attended[np.ix_(permutation, permutation)]
        assert np.array_equal(result.classes(head, entry), dense_classes(attended, block))
    return result


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("length", [1, 150])
def test_one_sequence(length, block):
    check(mask(both(causal(), within(20)), tokens(length)), block)


@pytest.mark.parametrize("block", BLOCKS)
def test_cross_attention(block):
    relation = apply(Op.LESS, apply(Op.FLOOR_DIVIDE, k("x"), c(2)), q())
    assert tiles(mask(relation, tokens(40), grid(9, 13)), block).key_length == 117
    check(mask(relation, tokens(40), grid(9, 13)), block)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("keys", [("y", "x"), ("x", "y")])
def test_an_order_lays_tokens_out(block, keys):
    """Tiles of 4 x 5, cut at the borders."""
    order = (tuple(apply(Op.FLOOR_DIVIDE, token(name), c(size)) for name, size in zip(keys, (4, 5), strict=True)),)
    pattern = mask(both(within(3, "y"), within(2, "x")), replace(grid(13, 11), order=order))
    y, x = np.divmod(np.arange(13 * 11), 11)
    axes = {"y": y, "x": x}
    check(pattern, block, permutation=np.lexsort((axes[keys[1]] // 5, axes[keys[0]] // 4)))


@pytest.mark.parametrize("block", BLOCKS)
def test_spaces_and_computed_coordinates(block):
    image = Space("image", (Axis("y", 6), Axis("x", 7)))
    tile = apply(Op.ADD, blocks_of(token("y"), 3), blocks_of(token("x"), 2))
    coordinate = CoordinateDefinition("tile", Type.INT, (("image", Computed(tile)),))
    sequence = Sequence((Space("text", (Axis("text", 5),)), image), (coordinate,))
    inside = both(InSpace(Side.QUERY, "image"), InSpace(Side.KEY, "image"), equal(q("tile"), k("tile")))
    check(mask(either(InSpace(Side.QUERY, "text"), inside), sequence), block)


def test_heads_that_agree_share_a_map():
    half = apply(Op.LESS, Head(), c(3))
    relation = apply(Op.SELECT, half, equal(blocks_of(q("y"), 2), blocks_of(k("y"), 2)), within(1, "x"))
    result = check(mask(relation, grid(8, 8), heads=6), (16, 16))
    assert len(result.head_classes) == 2
    assert result.class_of_head.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert result.tile_map(head=1, batch=7) is result.head_classes[0]


def test_heads_whose_orders_agree_share_a_map():
    """Heads 0 to 2 differ in what their tokens are laid out by; then it begins anew."""
    turned = apply(
        Op.FLOOR_MODULO,
        apply(Op.MULTIPLY, token("i"), apply(Op.ADD, apply(Op.FLOOR_MODULO, Head(), c(3)), c(1))),
        c(61),
    )
    definition = CoordinateDefinition("place", Type.INT, (("tokens", Computed(turned)),))
    sequence = replace(tokens(61, definition), order=((token("place"),),))
    near = apply(Op.LESS, apply(Op.ABSOLUTE, apply(Op.SUBTRACT, q("place"), k("place"))), c(4))
    result = tiles(mask(near, sequence, heads=7), (8, 8))
    assert result.class_of_head.tolist() == [[0, 1, 2, 0, 1, 2, 0]]
    assert len(result.head_classes) == 3
    assert [result.full_count(head=head) for head in range(3)] == [result.full_count(head=0)] * 3


@pytest.mark.parametrize("block", BLOCKS)
def test_documents_differ_by_batch_entry(block):
    pattern = mask(
        both(causal(), equal(q("document"), k("document"))),
        tokens(90, given_coordinate("document")),
        inputs=[declared("document", Type.INT, batch=None, tokens=90)],
        heads=2,
    )
    document = np.sort(np.random.default_rng(1).integers(0, 6, (3, 90)), axis=1).astype(np.int32)
    result = check(pattern, block, {"document": document}, batch=3)
    assert len(result.head_classes) == 3 and result.class_of_head.shape == (3, 2)


def test_an_order_by_an_input_differs_by_head():
    sequence = replace(tokens(60, given_coordinate("cluster")), order=((token("cluster"),),))
    inputs = [declared("cluster", Type.INT, heads=2, tokens=60)]
    pattern = mask(equal(q("cluster"), k("cluster")), sequence, inputs=inputs, heads=2)
    cluster = np.random.default_rng(2).integers(0, 5, (2, 60))
    result = tiles(pattern, (8, 8), {"cluster": cluster})
    for head in range(2):
        order = np.argsort(cluster[head], kind="stable")
        attended = dense(pattern, head=head, inputs={"cluster": cluster})[np.ix_(order, order)]
        assert np.array_equal(result.classes(head), dense_classes(attended, (8, 8)))
    assert len(result.head_classes) == 2


@pytest.mark.parametrize("block", BLOCKS)
def test_tables_are_read_by_head_batch_and_block(block):
    inputs = [declared("keep", Type.BOOL, batch=None, heads=2, rows=10, columns=10)]
    read = Read("keep", (Batch(), Head(), blocks_of(q(), 8), blocks_of(k(), 8)), Type.BOOL)
    pattern = mask(both(read, causal()), tokens(77), inputs=inputs, heads=2)
    keep = np.random.default_rng(3).random((2, 2, 10, 10)) < 0.4
    result = check(pattern, block, {"keep": keep}, batch=2)
    assert len(result.head_classes) == 4


def test_tables_read_beyond_their_border_by_pairs_that_do_not_attend():
    offset = apply(Op.ADD, apply(Op.SUBTRACT, q(), k()), c(4))
    read = Read("near", (offset,), Type.BOOL)
    pattern = mask(both(within(4), read), tokens(50), inputs=[declared("near", Type.BOOL, size=9)])
    check(pattern, (8, 8), {"near": np.arange(9) % 3 == 0})


def test_the_batch_index_without_an_input():
    relation = equal(apply(Op.FLOOR_MODULO, q(), c(2)), apply(Op.FLOOR_MODULO, Batch(), c(2)))
    result = tiles(mask(relation, tokens(8)), (1, 4), batch=3)
    assert [result.full_count(batch=entry) for entry in range(3)] == [8, 8, 8]
    assert result.class_of_head.tolist() == [[0], [1], [0]]


def test_float_inputs_with_nan():
    relation = apply(Op.LESS, q("weight", Type.FLOAT), k("weight", Type.FLOAT))
    sequence = tokens(70, given_coordinate("weight", Type.FLOAT))
    pattern = mask(relation, sequence, inputs=[declared("weight", Type.FLOAT, tokens=70)])
    weight = np.random.default_rng(4).normal(size=70).astype(np.float32)
    weight[[3, 40]] = np.nan, np.inf
    check(pattern, (16, 16), {"weight": weight})
    check(replace(pattern, relation=apply(Op.NOT, relation)), (16, 16), {"weight": weight})


@settings(max_examples=examples(50))
@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 9), st.tuples(*[st.integers(1, 40)] * 2))
def test_neighbourhoods_of_any_size(height, width, radius, block):
    distance = apply(Op.ADD, *(apply(Op.POWER, apply(Op.SUBTRACT, q(a), k(a)), c(2)) for a in ("y", "x")))
    check(mask(apply(Op.LESS_EQUAL, distance, c(radius)), grid(height, width)), block)


@pytest.mark.parametrize(("length", "block", "code"), [(1 << 27, (128, 128), "E350"), (5, (0, 4), "E351")])
def test_sizes_that_make_no_sense_are_declared_errors(length, block, code):
    with pytest.raises(AttnError) as raised:
        tiles(mask(causal(), tokens(length)), block)
    assert raised.value.diagnostics[0].code == code

"""Bounds over blocks of tokens against the meaning of random relations, pair by pair."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import maskdsl
from maskdsl.ir.bounds import Bounder, Bounds
from maskdsl.ir.evaluate import Pairs
from maskdsl.ir.expressions import Apply, Coordinate, Expression, Head, InSpace, Side
from maskdsl.ir.operators import evaluate
from maskdsl.ir.ops import Op
from maskdsl.ir.ranges import Leaf, mask_leaf
from maskdsl.testing import inputs_for, patterns

Array = np.ndarray[Any, Any]


def ends(node: Leaf) -> Bounds:
    """The bounds of a leaf as two leaves."""
    match node:
        case Coordinate(side=side, name=name, type=kind):
            return Bounds(Coordinate(side, f"{name} low", kind), Coordinate(side, f"{name} high", kind))
        case InSpace(side=side, space=name):
            return Bounds(InSpace(side, f"{name} low"), InSpace(side, f"{name} high"))
        case _:
            return Bounds(node, node)


def classes(mask: maskdsl.Mask, inputs: dict[str, Array], head: int, block: int) -> tuple[Array, Array]:
    """Whether tiles are certain and possible, by the bounds of their relation."""
    ir = mask.ir
    zero = np.zeros((1, 1), dtype=np.int64)
    pairs = Pairs(ir, zero, zero, head, 0, inputs)
    ranges = mask_leaf(ir)
    bounds = Bounder(ends, ranges).bounds(ir.relation)

    def reduced(values: Array, function: Any) -> Array:
        starts = np.arange(0, len(values), block)
        return function.reduceat(values, starts)

    def leaf(node: Leaf) -> Array:
        match node:
            case Coordinate(side=side, name=name) | InSpace(side=side, space=name):
                own, which = name.rsplit(" ", 1)
                tokens = pairs.query if side is Side.QUERY else pairs.key
                values = tokens.values(own) if isinstance(node, Coordinate) else tokens.member(own)
                found = reduced(values, np.minimum if which == "low" else np.maximum)
                return found[:, None] if side is Side.QUERY else found[None, :]
            case Head():
                return np.asarray(head)
            case _:
                return np.asarray(0)

    with np.errstate(all="ignore"):
        return tuple(np.broadcast_to(evaluate(each, leaf, inputs), shape(mask, block)) for each in bounds)  # type: ignore[return-value]


def shape(mask: maskdsl.Mask, block: int) -> tuple[int, int]:
    return -(-mask.query_length // block), -(-mask.key_length // block)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_bounds_are_never_wrong(data: st.DataObject) -> None:
    mask = data.draw(patterns()).bind()
    arrays = data.draw(inputs_for(mask.ir))
    block = data.draw(st.sampled_from([1, 3, 8]))
    head = data.draw(st.integers(0, mask.heads - 1))
    certain, possible = classes(mask, arrays, head, block)
    dense = mask.dense(head=head, **arrays)
    for row, column in np.ndindex(certain.shape):
        tile = dense[row * block : row * block + block, column * block : column * block + block]
        assert not certain[row, column] or tile.all()
        assert possible[row, column] or not tile.any()


def test_bounds_of_windows_are_exact() -> None:
    text = "pattern p(n = 61) { space t[n]  attend window(9) and causal or blocks(8) }"
    mask = maskdsl.parse(text)["p"].bind()
    for block in (1, 4, 16):
        certain, possible = classes(mask, {}, 0, block)
        found = mask.tiles((block, block)).classes()
        assert (possible >= (found > 0)).all()
        assert (possible == (found > 0)).mean() > 0.9
        assert (certain <= (found == 2)).all()


def test_tables_are_read_where_all_pairs_read_the_same() -> None:
    text = "pattern p(n = 64) { space t[n]  input cut: int[8]  attend k < cut[q // 8] }"
    mask = maskdsl.parse(text)["p"].bind()
    cut = np.array([5, 64, 0, 17, 40, 33, 8, 9])
    certain, possible = classes(mask, {"cut": cut}, 0, 8)
    found = mask.tiles((8, 8), cut=cut).classes()
    assert np.array_equal(np.where(certain, 2, possible), found)


def test_a_product_with_nothing_known_is_bounded_by_its_range() -> None:
    a: Expression = Coordinate(Side.QUERY, "i")
    product = Apply(Op.MULTIPLY, (a, Coordinate(Side.KEY, "i")))
    mask = maskdsl.parse("pattern p(n = 10) { space t[n]  attend q * k < 5 }")["p"].bind().ir
    low, high = Bounder(ends, mask_leaf(mask)).bounds(product)
    assert (low.value, high.value) == (0, 81)  # type: ignore[union-attr]

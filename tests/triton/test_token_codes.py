"""Codes of tokens say what the relations of a mask say, of every pair, and take the place of divisions in kernels."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ahead import compile_ahead, machine_code
from assembly import tile_loops

import maskdsl
from maskdsl.emit.plan import make_plan
from maskdsl.emit.triton.attention_module import emit_triton
from maskdsl.ir.expressions import Coordinate, Expression, Head, InSpace, Leaf, Side
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.numpy_operators import evaluate
from maskdsl.ir.ops import Array

EXAMPLES = Path(__file__).parents[2] / "examples"
GRIDS = {
    "vision/swin: swin": {"h": 14, "w": 21},
    "vision/neighborhood: na2": {"h": 12, "w": 17},
    "vision/neighborhood: na3": {"t": 6, "h": 9, "w": 8},
    "vision/neighborhood: na3_causal": {"t": 6, "h": 9, "w": 8},
    "vision/dinat: dinat": {"h": 20, "w": 18, "kernel": (3, 3), "dilation": (4, 2)},
    "vision/hilbert_window: hilbert_layout": {},
    "vision/a2mamba: a2mamba": {},
    "video/sliding_tile: sliding_tile": {},
    "video/video_gna: hunyuan": {},
}


def bound(key: str) -> MaskIR:
    file, name = key.split(": ")
    return maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=4, **GRIDS[key]).ir


def pairs(mask: MaskIR, expression: Expression, head: int) -> Array:
    """bool: its values for some of the queries and all keys."""
    sides = {side: Coordinates(mask, sequence, {}, 0, head) for side, sequence in mask.sequences.items()}
    some = slice(None, None, max(1, mask.queries.length // 128))

    def of_side(side: Side, values: Array) -> Array:
        return values[some, None] if side is Side.QUERY else values[None, :]

    def leaf(node: Leaf) -> Array:
        match node:
            case Coordinate(side=side, name=name):
                return of_side(side, sides[side].values(name))
            case InSpace(side=side, space=space):
                return of_side(side, sides[side].member(space))
            case Head():
                return np.asarray(head)
            case _:
                raise AssertionError(node)

    with np.errstate(all="ignore"):
        return np.asarray(evaluate(expression, leaf, {}))


@pytest.mark.parametrize("key", GRIDS)
def test_relations_of_codes_are_the_same(key: str) -> None:
    mask = bound(key)
    plan = make_plan(mask).coded
    assert plan.mask.relation != mask.relation
    for head in (0, 3):
        expected = pairs(mask, mask.relation, head)
        assert expected.any() and not expected.all()
        assert (pairs(plan.mask, plan.mask.relation, head) == expected).all()


@pytest.mark.parametrize("key", ["vision/swin: swin", "vision/neighborhood: na2", "vision/neighborhood: na3"])
def test_kernels_of_grids_divide_nothing(key: str) -> None:
    lines = emit_triton(make_plan(bound(key))).splitlines()
    coordinates = [line for line in lines if re.search(r"\b[qk]_\w+ = |attends &= ", line)]
    assert coordinates
    assert not any("//" in line or "%" in line or "floor_" in line for line in coordinates)


def test_one_code_says_whether_both_are_in_one_window() -> None:
    """Of swin, two equalities of two axes each; of na2, four comparisons: each is one comparison of a pair."""
    for key in ("vision/swin: swin", "vision/neighborhood: na2"):
        relation = make_plan(bound(key)).coded.mask.relation
        assert len(reads(relation).coordinates) == 2


def names(text: str) -> Iterator[str]:
    mask = maskdsl.parse(text)["p"].bind().ir
    yield from (each.name for each in make_plan(mask).coded.mask.queries.coordinates)


def test_names_of_codes_are_no_names_of_the_pattern() -> None:
    """Kernels take inputs by their names, which stay as they are."""
    text = """
    pattern p(h = 8, w = 8) {
        space image[y = h, x = w]
        input code_1: float[1]
        coord code_2 = y + x
        attend blocks((3, 3)) and same(code_2)
        score s + code_1[0]
    }
    """
    plan = make_plan(maskdsl.parse(text)["p"].bind().ir)
    assert plan.coded.input_identifiers == plan.input_identifiers
    assert [*names(text)] == ["code_2", "code_3"]


@pytest.mark.parametrize(("file", "name", "most"), [("swin", "swin", 500), ("neighborhood", "na2", 600)])
def test_instructions_of_partial_tiles_on_hopper(file: str, name: str, most: int) -> None:
    """Of 128 x 64 pairs at 64 dims, forward: attention to all before takes some 480."""
    mask = maskdsl.load(EXAMPLES / "vision" / f"{file}.attn")[name].bind(heads=4).ir
    full, partial = tile_loops(machine_code(compile_ahead(mask, "sm90")))
    assert full.instructions < partial.instructions <= most

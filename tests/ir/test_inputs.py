"""Inputs given as arrays against their declarations."""

import numpy as np
import pytest

from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.expressions import Batch, Read, Score, apply
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.ops import Op, Type
from tests.support.masks import both, causal, declared, given, k, mask, q, tokens

DOCUMENT = declared("document", Type.INT, batch=None, tokens=5)
KEEP = declared("keep", Type.BOOL, batch=None, size=3)
BIAS = declared("bias", Type.FLOAT, batch=None, size=4)
READ = Read("keep", (q(), k()), Type.BOOL)
PATTERN = mask(
    both(causal(), apply(Op.EQUAL, q("document"), k("document"))),
    tokens(5, given("document")),
    inputs=[DOCUMENT, BIAS],
    scores=(apply(Op.ADD, Score(), Read("bias", (Batch(), q()), Type.FLOAT)),),
)

WRONG = [
    ({}, ["E410"]),
    ({"documents": np.zeros((1, 5), int), "document": np.zeros((1, 5), int)}, ["E411"]),
    ({"document": np.zeros(5, int)}, ["E412"]),
    ({"document": np.zeros((2, 6), int)}, ["E412"]),
    ({"document": np.zeros((2, 5))}, ["E413"]),
    ({"document": np.full((2, 5), 2**31)}, ["E414"]),
    ({"document": np.zeros((2, 6), bool), "bias": np.zeros((2, 4), int)}, ["E412", "E413", "E413"]),
]


@pytest.mark.parametrize(("values", "codes"), WRONG)
def test_all_that_is_wrong_is_reported(values, codes):
    with pytest.raises(AttnError) as raised:
        tiles(PATTERN, (4, 4), values)
    assert [diagnostic.code for diagnostic in raised.value.diagnostics] == codes


def test_batch_entries_agree():
    pattern = mask(causal(), tokens(5), inputs=[DOCUMENT, KEEP])
    document, keep = np.zeros((2, 5), int), np.zeros((2, 3), bool)
    assert set(input_arrays(pattern, {"document": document, "keep": keep}, [])) == {"document", "keep"}
    with pytest.raises(AttnError, match="batch = 2"):
        input_arrays(pattern, {"document": document, "keep": np.zeros((3, 3), bool)}, [])
    alone = input_arrays(pattern, {"document": document, "keep": keep[:1]}, [])
    assert {name: x.shape for name, x in alone.items()} == {"document": (2, 5), "keep": (2, 3)}


def test_only_inputs_of_the_relation_and_the_order_are_needed():
    assert relation_inputs(PATTERN) == {"document"}
    assert relation_inputs(mask(READ, tokens(5), inputs=[KEEP])) == {"keep"}
    assert tiles(PATTERN, (4, 4), {"document": [[0, 0, 1, 1, 1]]}).partial_count() == 2

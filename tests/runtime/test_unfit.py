"""What does not fit a pattern is told in the same words of arrays, from which tiles are found, and of tensors."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl import AttnError
from maskdsl.ir.meaning.vectors import check_vectors

TEXT = """
pattern p(n = 16) {
    space t[n]
    input part: int[batch, t]
    input doc: int[batch, t]
    input flag: bool[heads, t]
    attend same(part, doc) and (q.flag or k.flag)
}
pattern pooled(n = 16) {
    space t[n]
    space coarse = mean(t, 4)
    queries t
    keys t ++ coarse
    route chosen = topk(2, dot(q, k))
    attend chosen
}
"""
DOC, FLAG = np.zeros((2, 16), dtype=np.int64), np.zeros((2, 16), dtype=bool)


def told(call):
    with pytest.raises(AttnError) as error:
        call()
    return [(each.code, each.fill(each.message), each.span and each.span.start) for each in error.value.diagnostics]


@pytest.mark.parametrize(
    "change",
    [
        {"doc": DOC[:, :15]},
        {"doc": DOC[0]},
        {"doc": DOC.astype(float), "flag": FLAG.astype(np.int32)},
        {"flag": np.zeros((3, 16), dtype=bool)},
        {"flag": FLAG[:0], "doc": DOC[:, :0]},
        {"doc": DOC + 2**31},
        {"doc": DOC - 2**40},
        {"doc": np.zeros((2, 16, 1), dtype=bool)},
    ],
)
def test_inputs(change):
    mask = maskdsl.parse(TEXT)["p"].bind(heads=2)
    inputs = {"part": DOC, "doc": DOC, "flag": FLAG, **change}
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    q, k, v = torch.zeros(3, 2, 2, 16, 8)
    attention = mask.compile()
    assert told(lambda: mask.tiles(**inputs)) == told(lambda: attention(q, k, v, **tensors))


@pytest.mark.parametrize(
    ("q", "k"),
    [
        ((1, 2, 16, 8), (1, 3, 16, 8)),
        ((1, 3, 16, 8), (1, 3, 16, 8)),
        ((1, 2, 16, 8), (2, 2, 20, 4)),
        ((1, 2, 15, 8), (1, 0, 16, 8)),
        ((2, 16, 8), (1, 2, 16, 8)),
        ((1, 2, 16, 0), (1, 2, 16, 0)),
    ],
)
def test_vectors(q, k):
    mask = maskdsl.parse(TEXT)["pooled"].bind(heads=2)
    q, k = np.zeros(q), np.zeros(k)
    attention = mask.compile()
    of_arrays = {*told(lambda: check_vectors(mask.ir, q, k))}
    of_tensors = {*told(lambda: attention(*map(torch.from_numpy, (q, k, k))))}
    assert {each for each in of_tensors if "`v`" not in each[1]} <= of_arrays

"""Each encoding, decoded as its engine documents it, is the dense mask; or is refused where it cannot hold it."""

import numpy as np
import pytest

import maskdsl
from tests.support.engine_cases import OF_EVERY_FILE, bound, cases_of
from tests.support.engine_decoders import of_bits, of_block_rows, of_columns, of_intervals


def runs_of(rows: np.ndarray) -> np.ndarray:
    """How many runs of true entries each row has."""
    return np.count_nonzero(np.diff(rows.astype(np.int8), axis=1, prepend=0) == 1, axis=1)


@pytest.mark.thinned(3, "file")
@OF_EVERY_FILE
def test_row_intervals(file: str) -> None:
    for case in cases_of(file):
        for batch in range(case.entries):
            functions = case.mask.row_intervals(1 << 20, batch=batch, **case.inputs)
            attended = case.dense[batch]
            assert functions.shape[0] in (1, len(attended)) and functions.shape[2] == case.mask.query_length
            for head, each in enumerate(attended):
                assert np.array_equal(of_intervals(functions[head % len(functions)], case.mask.key_length), each)
            needed = max((1 + 2 * (runs_of(each) - each[:, :1].any(axis=1))).max(initial=1) for each in attended)
            assert functions.shape[1] == needed
            if needed > 3:
                with pytest.raises(maskdsl.AttnError, match="E651"):
                    case.mask.row_intervals(batch=batch, **case.inputs)


@pytest.mark.thinned(3, "file")
@OF_EVERY_FILE
def test_column_intervals(file: str) -> None:
    for case in cases_of(file):
        for batch in range(case.entries):
            attended = case.dense[batch]
            if any(runs_of(~each.T).max(initial=0) > 2 for each in attended):
                with pytest.raises(maskdsl.AttnError, match="E652"):
                    case.mask.column_intervals(batch=batch, **case.inputs)
                continue
            indices = case.mask.column_intervals(batch=batch, **case.inputs)
            assert indices.shape[0] in (1, len(attended)) and indices.shape[1] == case.mask.key_length
            for head, each in enumerate(attended):
                assert np.array_equal(of_columns(indices[head % len(indices)], case.mask.query_length), each)


@pytest.mark.thinned(3, "file")
@OF_EVERY_FILE
def test_bits_and_blocks(file: str) -> None:
    for case in cases_of(file):
        size = case.mask.query_length, case.mask.key_length
        for batch in range(case.entries):
            for head, attended in enumerate(case.dense[batch][:2]):
                packed = case.mask.bits(head, batch=batch, **case.inputs)
                assert np.array_equal(of_bits(packed, *size), attended)
                if max(size) > 200:
                    continue
                rows = case.mask.block_sparse(1, head, batch=batch, **case.inputs)
                assert np.array_equal(of_block_rows(*rows, (1, 1), *size), attended)


def test_blocks_of_a_blocky_mask() -> None:
    mask = bound("pattern p(n) { space t[n] attend q // 16 >= k // 16 }", n=80)
    indptr, indices = mask.block_sparse(16)
    assert np.array_equal(of_block_rows(indptr, indices, (16, 16), 80, 80), mask.dense())
    assert indptr.tolist() == [0, 1, 3, 6, 10, 15]
    with pytest.raises(maskdsl.AttnError, match=r"E654.*row 0 and column 0"):
        mask.block_sparse(40)
    with pytest.raises(maskdsl.AttnError, match=r"E655.*80 keys"):
        mask.block_sparse((16, 24))


def test_heads_that_are_alike_are_one() -> None:
    mask = bound("pattern p(n) { space t[n] attend causal }", n=40, heads=8)
    assert mask.row_intervals().shape == (1, 1, 40)
    assert mask.column_intervals().shape == (1, 40, 4)


def test_mistakes() -> None:
    mask = bound("pattern p(n) { space t[n] input d: int[batch, t] attend same(d) }", n=9, heads=2)
    documents = np.zeros((3, 9), dtype=int)
    for wrong in (
        lambda: mask.row_intervals(batch=3, d=documents),
        lambda: mask.column_intervals(batch=3, d=documents),
        lambda: mask.bits(2, d=documents),
        lambda: mask.block_sparse(1, 2, d=documents),
    ):
        with pytest.raises(maskdsl.AttnError, match="E462"):
            wrong()
    with pytest.raises(maskdsl.AttnError, match="input `d`"):
        mask.row_intervals()
    branched = bound("pattern p(n) { space t[n] branch a { attend causal } branch b { attend all -> all } }", n=9)
    with pytest.raises(maskdsl.AttnError, match="E650"):
        branched.row_intervals()
    assert np.array_equal(of_intervals(branched.branches[0].row_intervals()[0], 9), branched.branches[0].dense())

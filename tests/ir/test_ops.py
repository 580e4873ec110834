"""The table of operators: every row says all that others read."""

import pytest

from maskdsl.ir.ops import OPERATORS, Op

WRITTEN_BY_PRINTERS = {Op.SHARE_BIT, Op.TO_FLOAT}


def test_every_operator_has_a_row() -> None:
    assert list(OPERATORS) == list(Op)


@pytest.mark.parametrize("op", Op)
def test_a_row_says_how_it_is_written(op: Op) -> None:
    row = OPERATORS[op]
    assert bool(row.symbol) + bool(row.function) == (op is not Op.SELECT)
    assert bool(row.help) == bool(row.function)
    assert len(row.parameters) >= row.count or not row.function
    if not row.symbol:
        assert row.torch or op in WRITTEN_BY_PRINTERS
        assert row.triton or op in WRITTEN_BY_PRINTERS | {Op.RANDOM}

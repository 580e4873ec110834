"""How evenly the programs that calls make load the processors of a GPU, by simulation."""

import pytest
from balance import HEADS, KERNELS, balance, packed, pattern


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("name", ["longformer", "bigbird", "streaming"])
@pytest.mark.parametrize("length", [16_384, 131_072])
def test_no_processor_is_last_by_far(name: str, length: int, kernel: str) -> None:
    """8 heads of one batch entry on 132 processors. Without an order and pieces it is up to 2.7 of an even load."""
    found = balance(pattern(name, length), kernel)
    assert found.ratio <= 1.15
    assert found.plan_seconds <= max(found.map_seconds, 0.05)


@pytest.mark.parametrize(("name", "kernel"), [("longformer", "forward"), ("bigbird", "dkdv"), ("streaming", "dkdv")])
def test_the_simulation_sees_what_runs_alone(name: str, kernel: str) -> None:
    """Of programs in the order of heads and rows."""
    assert balance(pattern(name, 16_384), kernel).unordered > 1.5


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("length", [16_384, 131_072])
def test_rows_of_packed_documents_may_stay_whole(length: int, kernel: str) -> None:
    """One document of 8,192 tokens among short ones, 8 heads: rows that a kernel finds are in order, and not split."""
    mask, inputs = packed(length, HEADS)
    found = balance(mask, kernel, splits=False, **inputs)
    assert found.ratio <= 1.15

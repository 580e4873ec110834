"""The structures that the product hands to the kernels in C are those of their text."""

from ctypes import Structure, sizeof

import numpy as np

from maskdsl.runtime.backends.native.structures import LANES, LARGEST_ROW, ROW, RUN, SEGMENT, CallStructure
from tests.support.c_structures import constant, structures


def layout(kind: type[Structure]) -> dict[str, object]:
    """The offset of each field, and its size; of fields that are structures, their layout."""
    fields = {name: (field, getattr(kind, name)) for name, field, *_ in kind._fields_}
    return {
        name: (at.offset, layout(field) if issubclass(field, Structure) else (at.size, np.dtype(field).kind))
        for name, (field, at) in fields.items()
    }


def test_calls() -> None:
    expected = structures()["call"]
    assert layout(CallStructure) == layout(expected) and sizeof(CallStructure) == sizeof(expected)


def test_rows_runs_and_segments() -> None:
    for dtype, name in ((ROW, "row"), (RUN, "run"), (SEGMENT, "segment")):
        expected = layout(structures()[name])
        assert {field: (at, (kind.itemsize, kind.kind)) for field, (kind, at) in dtype.fields.items()} == expected
        assert dtype.itemsize == sizeof(structures()[name])


def test_numbers() -> None:
    assert (constant("LANES"), constant("ROW")) == (LANES, LARGEST_ROW)

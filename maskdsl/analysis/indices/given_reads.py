"""Reads of tables that inputs decide, asked when the inputs are given: an error names the pair and what inputs hold."""

from collections.abc import Iterable, Mapping

from maskdsl.analysis.indices.in_bounds import (
    IndexQuestion,
    Outside,
    answer,
    inputs_of,
    known_inside,
    open_questions,
    where,
)
from maskdsl.analysis.tiles.intervals import Array
from maskdsl.base.diagnostics import AttnError, Diagnostic, Note
from maskdsl.base.errors.calls.inputs import InputReadOutside
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import batch_entries, input_arrays

BUDGET = 1 << 18
"""Boxes that one search may take: what takes more is seen by `debug=True` alone."""


def check_reads(mask: MaskIR, arrays: Mapping[str, Array], batch: int) -> None:
    """Raises if a pair that attends reads outside of a table, as far as these inputs decide it."""
    for question in open_questions(mask):
        if inputs_of(mask, question) <= arrays.keys():
            fault = read_fault(mask, question, arrays, batch, BUDGET)
            if fault is not None:
                raise AttnError(fault)


def check_layers(masks: Iterable[MaskIR], given: Mapping[str, Array]) -> None:
    """The same for the masks of a stack, each of which has some of the inputs; raises if these do not fit it."""
    for mask in masks:
        own = {each.name: given[each.name] for each in mask.given if each.name in given}
        check_reads(mask, input_arrays(mask, own, ()), batch_entries(mask, own))


def read_fault(
    mask: MaskIR, question: IndexQuestion, arrays: Mapping[str, Array], batch: int, budget: int
) -> Diagnostic | None:
    """What is wrong with one index; None if nothing is, or if nobody sees it within the budget."""
    if known_inside(mask, question, arrays):
        return None
    found = answer(mask, question, arrays, batch, budget)
    if not isinstance(found, Outside):
        return None
    notes = (_values(mask, name, arrays[name]) for name in inputs_of(mask, question) if name in arrays)
    return InputReadOutside(
        span=question.index.span or question.read.span,
        name=question.read.input,
        value=found.value,
        last=question.size - 1,
        where=where(found),
        notes=tuple(notes),
    )


def _values(mask: MaskIR, name: str, array: Array) -> Note:
    declared = mask.input(name)
    assert declared is not None
    span = f"holds {array.min()} to {array.max()}" if array.size else "is empty"
    return Note(f"the input `{name}` {span}", declared.span)

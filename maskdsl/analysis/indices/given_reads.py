"""Checks table reads that depend on inputs, once these are given. Errors name the pair and the range of the inputs."""

from collections.abc import Iterable, Mapping

from maskdsl.analysis.indices.in_bounds import (
    IndexQuestion,
    Outside,
    answer,
    inputs_of,
    known_inside,
    open_questions,
    where,
    written,
)
from maskdsl.base.diagnostics import AttnError, Diagnostic, Note
from maskdsl.base.errors.calls.inputs import InputReadOutside
from maskdsl.base.errors.calls.sparse_inputs import NumberOfNoEntry
from maskdsl.ir.declared.inputs import said
from maskdsl.ir.expressions import Read
from maskdsl.ir.facts.intervals import Array
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.meaning.inputs import batch_entries, input_arrays

BUDGET = 1 << 18
"""The most boxes of one search; only `debug=True` finds errors that take more."""


def check_reads(mask: MaskIR, arrays: Mapping[str, Array], batch: int) -> None:
    """Raises `InputReadOutside` if an attending pair reads outside a table, as far as these inputs decide it.

    `batch` is the number of batch entries. Questions that need other inputs are skipped.
    """
    for question in open_questions(mask):
        if inputs_of(mask, question) <= arrays.keys():
            fault = read_fault(mask, question, arrays, batch, BUDGET)
            if fault is not None:
                raise AttnError(fault)


def check_layers(masks: Iterable[MaskIR], given: Mapping[str, Array]) -> None:
    """Checks all masks of a stack. Raises as `check_reads`, and if an input does not fit a mask."""
    for mask in masks:
        arrays = {each.name: given[each.name] for each in mask.given if each.name in given}
        check_reads(mask, input_arrays(mask, arrays, ()), batch_entries(mask, arrays))


def read_fault(
    mask: MaskIR, question: IndexQuestion, arrays: Mapping[str, Array], batch: int, budget: int
) -> Diagnostic | None:
    """The error of one index; None if it stays inside, or the search exceeds `budget` boxes."""
    if not batch or known_inside(mask, question, arrays):
        return None
    outside = answer(mask, question, arrays, batch, budget)
    if not isinstance(outside, Outside):
        return None
    span = question.index.span or question.read.span
    name, first = written(mask, question)
    if isinstance(question.index, Read) and question.index.sparse:
        sparse, text = question.index.input, print_expression(question.index)
        return NumberOfNoEntry(span=span, name=name, sparse=sparse, where=where(outside), text=text)
    notes = (_values(mask, each, arrays[each]) for each in inputs_of(mask, question) if each in arrays)
    return InputReadOutside(
        span=span,
        name=name,
        value=outside.value + first,
        last=question.size + first - 1,
        where=where(outside),
        notes=tuple(notes),
    )


def _values(mask: MaskIR, name: str, array: Array) -> Note:
    declared = mask.input(name)
    assert declared is not None
    values = f"holds {array.min()} to {array.max()}" if array.size else "is empty"
    return Note(f"the input `{said(name)}` {values}", declared.span)

"""Reads of tables that inputs decide: whether they stay inside for all pairs that attend, as far as the host sees."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from weakref import ref

from torch import Tensor

from maskdsl.analysis.in_bounds import (
    NO_LIMIT,
    Outside,
    Question,
    answer,
    inputs_of,
    known_inside,
    open_questions,
    where,
)
from maskdsl.diagnostics import AttnError, Diagnostic, Note
from maskdsl.errors.call import InputReadOutside
from maskdsl.ir.mask import MaskIR
from maskdsl.runtime.state import Array, as_array

BUDGET = 1 << 18
"""Boxes that one search may take in a call: what takes more is seen by `debug=True` alone."""


class OpenReads:
    """What bind left open in one mask, asked for in calls whose tensors are on the host."""

    def __init__(self, mask: MaskIR) -> None:
        self.mask = mask
        self.passed: dict[str, tuple[object, int, int]] = {}
        """The inputs of the last call in which all was inside, as they were: weakly held, version, batch entries."""

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        return tuple(open_questions(self.mask))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The inputs that decide."""
        found = frozenset[str]().union(*(inputs_of(self.mask, each) for each in self.questions))
        return tuple(each.name for each in self.mask.inputs if each.name in found)

    def check(self, inputs: Sequence[Tensor], batch: int, debug: bool = False) -> None:
        """Raises if a pair that attends reads outside. `inputs` are all of the mask. Waits for a GPU in debugging only.

        Tensors that have not changed since they passed are not looked at again.
        """
        if not self.questions:
            return
        given = dict(zip((each.name for each in self.mask.inputs), inputs, strict=True))
        used = {name: given[name] for name in self.names}
        if not debug and any(x.device.type != "cpu" for x in used.values()):
            return
        if not debug and used and all(self.has_passed(name, x, batch) for name, x in used.items()):
            return
        arrays = {name: as_array(x) for name, x in used.items()}
        found = [self.fault(each, arrays, batch, NO_LIMIT if debug else BUDGET) for each in self.questions]
        faults = [each for each in found if each is not None]
        if faults:
            raise AttnError(faults[0])
        self.passed = {name: (ref(x), x._version, batch) for name, x in used.items() if not x.is_inference()}

    def has_passed(self, name: str, x: Tensor, batch: int) -> bool:
        if name not in self.passed or x.is_inference():
            return False
        known, version, entries = self.passed[name]
        return known() is x and (version, entries) == (x._version, batch)  # type: ignore[operator]

    def fault(self, question: Question, arrays: Mapping[str, Array], batch: int, budget: int) -> Diagnostic | None:
        if known_inside(self.mask, question, arrays):
            return None
        found = answer(self.mask, question, arrays, batch, budget)
        if not isinstance(found, Outside):
            return None
        notes = (self.values(name, arrays[name]) for name in inputs_of(self.mask, question))
        return InputReadOutside(
            span=question.index.span or question.read.span,
            name=question.read.input,
            value=found.value,
            last=question.size - 1,
            where=where(found),
            notes=tuple(notes),
        )

    def values(self, name: str, array: Array) -> Note:
        declared = self.mask.input(name)
        assert declared is not None
        span = f"holds {array.min()} to {array.max()}" if array.size else "is empty"
        return Note(f"the input `{name}` {span}", declared.span)

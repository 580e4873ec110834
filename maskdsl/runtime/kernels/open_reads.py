"""Bounds checks of table reads that depend on inputs: per call, on the host, for the pairs that attend."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple
from weakref import ref

from torch import Tensor

from maskdsl.analysis.indices.given_reads import BUDGET, read_fault
from maskdsl.analysis.indices.in_bounds import NO_LIMIT, IndexQuestion, inputs_of, open_questions
from maskdsl.base.diagnostics import AttnError
from maskdsl.ir.expressions import Batch, Constant, Coordinate, Side, apply
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.runtime.base.call_cache import as_array


class CallTokens(NamedTuple):
    """The tokens of one batch entry in a partial call: `queries` queries from `start` on, and the first `keys` keys."""

    start: int
    queries: int
    keys: int

    def restricted(self, mask: MaskIR, question: IndexQuestion, entry: int) -> IndexQuestion:
        """The question for pairs of these tokens only."""
        guards = [apply(Op.EQUAL, Batch(), Constant(entry))]
        for side, (sequence, _) in question.positions.items():
            position = Coordinate(side, "i")
            end = apply(Op.LESS, position, Constant(self.start + self.queries))
            query = apply(Op.AND, apply(Op.LESS_EQUAL, Constant(self.start), position), end)
            key = apply(Op.LESS, position, Constant(self.keys))
            if side is Side.TOKEN and mask.is_layer:
                guards.append(apply(Op.OR, query, key))
            else:
                guards.append(query if sequence == mask.queries and side is not Side.KEY else key)
        return replace(question, guards=(*question.guards, *guards))


class OpenReads:
    """The index bounds of one mask that binding could not prove, checked in calls whose tensors are on the host."""

    def __init__(self, mask: MaskIR) -> None:
        self.mask = mask
        self.passed: dict[str, tuple[object, int, int]] = {}
        """The inputs of the last call that passed, by name: a weak reference, the tensor's version, the batch size."""

    @cached_property
    def questions(self) -> tuple[IndexQuestion, ...]:
        """The unproven index bounds."""
        return tuple(open_questions(self.mask))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The inputs that indices depend on."""
        used = frozenset[str]().union(*(inputs_of(self.mask, each) for each in self.questions))
        return tuple(each.name for each in self.mask.inputs if each.name in used)

    def check(
        self,
        inputs: Sequence[Tensor],
        batch: int,
        debug: bool = False,
        tokens: Callable[[], Sequence[CallTokens]] | None = None,
    ) -> None:
        """Raises `AttnError` if an attending pair reads outside a table. Checks tensors on a GPU only with `debug`.

        `inputs` are all inputs of the mask. In a partial call `tokens` gives the tokens of each batch entry, and
        `inputs` may be the given ones only. Tensors that have not changed since they passed are not checked again.
        """
        if not self.questions:
            return
        given = dict(zip((each.name for each in self.mask.unmultiplied), inputs, strict=tokens is None))
        used = {name: given[name] for name in self.names if name in given}
        if not debug and any(x.device.type != "cpu" for x in used.values()):
            return
        if not debug and used and all(self.has_passed(name, x, batch) for name, x in used.items()):
            return
        arrays = {name: as_array(x) for name, x in used.items()}
        budget = NO_LIMIT if debug else BUDGET
        faulty = [each for each in self.questions if read_fault(self.mask, each, arrays, batch, budget) is not None]
        questions = faulty
        if faulty and tokens is not None:
            pairs = [(each, entry, n) for each in faulty if not each.groups for n, entry in enumerate(tokens())]
            questions = [entry.restricted(self.mask, each, n) for each, entry, n in pairs]
        for each in questions:
            fault = read_fault(self.mask, each, arrays, batch, budget)
            if fault is not None:
                raise AttnError(fault)
        if faulty:
            return  # the faults are at tokens that are not in this call
        self.passed = {name: (ref(x), x._version, batch) for name, x in used.items() if not x.is_inference()}

    def has_passed(self, name: str, x: Tensor, batch: int) -> bool:
        """Whether this tensor, unchanged since, was in the last call that passed."""
        if name not in self.passed or x.is_inference():
            return False
        known, version, entries = self.passed[name]
        return known() is x and (version, entries) == (x._version, batch)  # type: ignore[operator]

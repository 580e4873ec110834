"""Why a pair attends or does not: every `attend` and `require` line taken apart, with the pair's own values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from maskdsl.ir.expressions import (
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    rebuild,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import Clause, MaskIR, Sequence
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.evaluate import Pairs
from maskdsl.ir.ops import COMPARISONS, Array, Op


@dataclass(frozen=True)
class Reason:
    """A condition and whether it holds for the pair. Exactly one of `parts` and `steps` may be filled."""

    condition: Expression
    holds: bool
    parts: tuple["Reason", ...] = ()
    """Of an `and`, `or` or `not`: what it is made of."""
    steps: tuple[Expression, ...] = ()
    """Of anything else: the condition with the pair's values in it, then with both sides computed."""


@dataclass(frozen=True)
class Line:
    """What one line of the pattern says about the pair."""

    clause: Clause
    reason: Reason


@dataclass(frozen=True)
class PairReasons:
    """All that decides one pair, in one head and batch entry."""

    query: int
    key: int
    head: int
    batch: int
    attends: bool
    attend: tuple[Line, ...]
    require: tuple[Line, ...]

    @property
    def deciding(self) -> tuple[Line, ...]:
        """The lines without which it were otherwise: those that allow it, or else those that fail it."""
        if self.attends:
            return tuple(line for line in self.attend if line.reason.holds)
        failed = tuple(line for line in self.require if not line.reason.holds)
        return failed or self.attend


def pair_reasons(
    mask: MaskIR, query: int, key: int, head: int = 0, batch: int = 0, inputs: Mapping[str, Array] | None = None
) -> PairReasons:
    """For the query and the key at these declared positions, which must be within their sequences.

    `inputs` are arrays as given at the call, with all that is found in queries and keys. Raises `AttnError` where an
    attending pair reads outside a table.
    """
    pair = Pairs(mask, np.asarray(query), np.asarray(key), head, batch, inputs or {})
    attends = bool(pair.allowed())

    def lines(clauses: tuple[Clause, ...], asked: bool) -> Iterator[Line]:
        for clause in clauses:
            reason = _explained(pair, clause.relation, asked)
            asked = asked and reason.holds  # a later `require` may lean on an earlier one
            yield Line(clause, reason)

    attend = tuple(Line(clause, _explained(pair, clause.relation, True)) for clause in mask.attend)
    allowed = any(line.reason.holds for line in attend)
    return PairReasons(query, key, head, batch, attends, attend, tuple(lines(mask.require, allowed)))


def _explained(pair: Pairs, condition: Expression, asked: bool) -> Reason:
    """Conditions are taken apart at `and`, `or` and `not`; what only guards others is not asked of tables."""
    holds = bool(pair.evaluate(condition, np.asarray(asked)))
    match condition:
        case Apply(op=Op.AND | Op.OR as op):
            parts = []
            for part in _joined(condition, op):
                parts.append(_explained(pair, part, asked))
                asked = asked and parts[-1].holds is (op is Op.AND)
            return Reason(condition, holds, parts=tuple(parts))
        case Apply(op=Op.NOT, arguments=(part,)) if _is_made_of_conditions(part):
            return Reason(condition, holds, parts=(_explained(pair, part, asked),))
        case _:
            filled = _with_values(pair, condition)
            steps = (filled,) if filled != condition else ()
            return Reason(condition, holds, steps=(*steps, *_computed(pair, filled, asked)))


def _joined(condition: Expression, op: Op) -> Iterator[Expression]:
    """The parts of `a and b and c`, however they are nested."""
    if isinstance(condition, Apply) and condition.op is op:
        for part in condition.arguments:
            yield from _joined(part, op)
    else:
        yield condition


def _is_made_of_conditions(condition: Expression) -> bool:
    return isinstance(condition, Apply) and condition.op in (Op.AND, Op.OR, Op.NOT)


def _with_values(pair: Pairs, expression: Expression) -> Expression:
    """The pair's numbers in place of its coordinates."""

    def fill(node: Expression) -> Expression | None:
        match node:
            case Coordinate() | InSpace() | Head() | Batch():
                return _constant(pair, node)
            case _:
                return None

    return rebuild(expression, fill)


def _computed(pair: Pairs, filled: Expression, asked: bool) -> tuple[Expression, ...]:
    """The comparison of two numbers that a filled one comes to, if that is not what it is."""
    if not (asked and isinstance(filled, Apply) and filled.op in COMPARISONS):
        return ()
    result = Apply(filled.op, tuple(_constant(pair, part) for part in filled.arguments))
    return () if result == filled else (result,)


def _constant(pair: Pairs, expression: Expression) -> Constant:
    return Constant(pair.evaluate(expression, np.asarray(True)).item())


def coordinates(
    mask: MaskIR, sequence: Sequence, position: int, head: int, batch: int, inputs: Mapping[str, Array]
) -> dict[str, int | float | bool]:
    """The token's own coordinates by name: its axes, and what lines read of those declared."""
    space, offset = next(
        (space, offset)
        for space, offset in zip(sequence.spaces, sequence.offsets, strict=True)
        if position < offset + space.size
    )
    known = Coordinates(mask, sequence, inputs, batch, head)
    on_axes = np.unravel_index(position - offset, space.lengths)
    found: dict[str, int | float | bool] = {}
    if len(space.axes) > 1 or offset:  # otherwise it is the position itself
        found |= {axis.name: int(each) for axis, each in zip(space.axes, on_axes, strict=True)}
    read = reads(*(clause.relation for clause in (*mask.attend, *mask.require)))
    needed = {each.name for each in read.coordinates}
    for definition in sequence.coordinates:
        if definition.name in needed and any(name == space.name for name, _ in definition.sources):
            found[definition.name] = known.values(definition.name)[position].item()
    return found

"""Why a pair attends or not: every `attend` and `require` line evaluated for the pair, condition by condition."""

from collections.abc import Iterator, Mapping

import numpy as np

from maskdsl.base.records import dataclass
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
    """A condition and whether it holds for the pair. At most one of `operands` and `steps` is not empty."""

    condition: Expression
    holds: bool
    operands: tuple["Reason", ...] = ()
    """The operands of an `and`, `or` or `not`."""
    steps: tuple[Expression, ...] = ()
    """Of any other condition: with the pair's values filled in, then with both sides of the comparison computed."""


@dataclass(frozen=True)
class Line:
    """An `attend` or `require` line, evaluated for the pair."""

    clause: Clause
    reason: Reason


@dataclass(frozen=True)
class PairReasons:
    """The evaluated lines of a pattern for one pair, in one head and batch entry."""

    query: int
    key: int
    head: int
    batch: int
    attends: bool
    attend: tuple[Line, ...]
    require: tuple[Line, ...]

    @property
    def deciding(self) -> tuple[Line, ...]:
        """The lines that decide: those that attend an attending pair, else the `require` lines that fail, if any."""
        if self.attends:
            return tuple(line for line in self.attend if line.reason.holds)
        failed = tuple(line for line in self.require if not line.reason.holds)
        return failed or self.attend


def pair_reasons(
    mask: MaskIR, query: int, key: int, head: int = 0, batch: int = 0, inputs: Mapping[str, Array] | None = None
) -> PairReasons:
    """Explains the query and the key at these declared positions, which must be inside their sequences.

    `inputs` are arrays as given at the call, with the results of routes. Raises `TableRead` if the pair attends and
    reads outside a table.
    """
    pair = Pairs(mask, np.asarray(query), np.asarray(key), head, batch, inputs or {})
    attends = bool(pair.allowed())

    def lines(clauses: tuple[Clause, ...], asked: bool) -> Iterator[Line]:
        for clause in clauses:
            reason = _explained(pair, clause.relation, asked)
            asked = asked and reason.holds  # an earlier `require` may guard the reads of a later one
            yield Line(clause, reason)

    attend = tuple(Line(clause, _explained(pair, clause.relation, True)) for clause in mask.attend)
    allowed = any(line.reason.holds for line in attend)
    return PairReasons(query, key, head, batch, attends, attend, tuple(lines(mask.require, allowed)))


def _explained(pair: Pairs, condition: Expression, asked: bool) -> Reason:
    """Splits a condition at `and`, `or` and `not`. If it is not `asked` for, reads outside tables are no errors."""
    holds = bool(pair.evaluate(condition, np.asarray(asked)))
    match condition:
        case Apply(op=Op.AND | Op.OR as op):
            operands = []
            for operand in _flattened(condition, op):
                operands.append(_explained(pair, operand, asked))
                asked = asked and operands[-1].holds is (op is Op.AND)
            return Reason(condition, holds, operands=tuple(operands))
        case Apply(op=Op.NOT, arguments=(inner,)) if _is_made_of_conditions(inner):
            return Reason(condition, holds, operands=(_explained(pair, inner, asked),))
        case _:
            filled = _with_values(pair, condition)
            steps = (filled,) if filled != condition else ()
            return Reason(condition, holds, steps=(*steps, *_computed(pair, filled, asked)))


def _flattened(condition: Expression, op: Op) -> Iterator[Expression]:
    """The operands of `a and b and c`, however they are nested."""
    if isinstance(condition, Apply) and condition.op is op:
        for operand in condition.arguments:
            yield from _flattened(operand, op)
    else:
        yield condition


def _is_made_of_conditions(condition: Expression) -> bool:
    return isinstance(condition, Apply) and condition.op in (Op.AND, Op.OR, Op.NOT)


def _with_values(pair: Pairs, expression: Expression) -> Expression:
    """The expression with the pair's values in place of its coordinates."""

    def fill(node: Expression) -> Expression | None:
        match node:
            case Coordinate() | InSpace() | Head() | Batch():
                return _constant(pair, node)
            case _:
                return None

    return rebuild(expression, fill)


def _computed(pair: Pairs, filled: Expression, asked: bool) -> tuple[Expression, ...]:
    """The comparison with both sides computed; nothing if they are numbers already, or it is no comparison."""
    if not (asked and isinstance(filled, Apply) and filled.op in COMPARISONS):
        return ()
    result = Apply(filled.op, tuple(_constant(pair, each) for each in filled.arguments))
    return () if result == filled else (result,)


def _constant(pair: Pairs, expression: Expression) -> Constant:
    return Constant(pair.evaluate(expression, np.asarray(True)).item())


def coordinates(
    mask: MaskIR, sequence: Sequence, position: int, head: int, batch: int, inputs: Mapping[str, Array]
) -> dict[str, int | float | bool]:
    """The values of one token's coordinates by name: its axes, and the declared ones that some line reads."""
    space, offset = next(
        (space, offset)
        for space, offset in zip(sequence.spaces, sequence.offsets, strict=True)
        if position < offset + space.size
    )
    known = Coordinates(mask, sequence, inputs, batch, head)
    cell = np.unravel_index(position - offset, space.lengths)
    values: dict[str, int | float | bool] = {}
    if len(space.axes) > 1 or offset:  # otherwise the axis equals the position
        values |= {axis.name: int(each) for axis, each in zip(space.axes, cell, strict=True)}
    read = reads(*(clause.relation for clause in (*mask.attend, *mask.require)))
    needed = {each.name for each in read.coordinates}
    for definition in sequence.coordinates:
        if definition.name in needed and any(name == space.name for name, _ in definition.sources):
            values[definition.name] = known.values(definition.name)[position].item()
    return values

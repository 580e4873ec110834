"""Explains one pair: every line of the text, condition by condition, with the values of the pair.

The conditions of a line are those of its text, bound again one by one, so that they keep their words: a call of a macro
is one condition, whose keys along an axis are listed, and not what it expands to.
"""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

import numpy as np

from maskdsl.analysis.counts.axis_factors import conjuncts
from maskdsl.analysis.reasons import key_sets, selected_groups
from maskdsl.analysis.reasons.explanation import Explanation, LineReason, Reason, ScoreLine
from maskdsl.analysis.reasons.score_reasons import ByCondition, Pieces, Scored, has_values, pieces_of, scored
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.base.text import printable
from maskdsl.bind.bind_pattern import frame_at
from maskdsl.bind.context.bound_values import Term, Value
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.expression.elaborate import chain, elaborate
from maskdsl.bind.visible_names import Names
from maskdsl.ir.declared.sequences import Sequence, Space
from maskdsl.ir.expressions import (
    TRUE,
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Read,
    Side,
    apply,
    rebuild,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.route_candidates import CandidateBounds
from maskdsl.ir.facts.trace import pair_trace, trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.mask_printer import print_expression
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.evaluate import Pairs
from maskdsl.ir.ops import COMPARISONS, Array, Op
from maskdsl.ir.routes import Draw, Route
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.entries import entry_numbers
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program

_LONGEST = 100
"""The most characters of a reason; a longer one is left out."""
_MOST_KEYS = 1 << 22
"""The most keys along an axis that are listed."""


def explain_pair(
    program: Program,
    mask: MaskIR,
    query: int,
    key: int,
    head: int = 0,
    batch: int = 0,
    inputs: Mapping[str, Array] | None = None,
) -> Explanation:
    """Explains the query and the key at these declared positions, which must be inside their sequences.

    `mask` is a pattern of the program, or a branch of one, in any order. `inputs` are arrays as given at the call, with
    the results of routes; routes without them select all their candidates. Raises `TableRead` if the pair attends and
    reads outside a table.
    """
    inputs = inputs or {}
    branches = tuple(explain_pair(program, each, query, key, head, batch, inputs) for each in mask.branches)
    bounds = CandidateBounds.of(mask)
    if bounds.removed <= inputs.keys():
        bounds = CandidateBounds(mask, frozenset())

    def meaning(relation: Expression) -> Expression:
        return simplify(bounds.bound(relation, True))

    pair = Pairs(mask, np.asarray(query), np.asarray(key), head, batch, inputs)
    attends = bool(pair.evaluate(meaning(mask.relation), np.asarray(True)))
    lines: tuple[LineReason, ...] = ()
    if not branches:
        heads, values = mask.whole or mask.heads, dict(mask.parameters)
        declaration, names, frame = frame_at(program, mask.name, values, heads, mask.branch)
        lines = tuple(_LineReasons(pair, names, meaning).explained(declaration, frame))
    of_query, of_key = (
        _coordinates(pair, bounds.without(sequence), position)
        for sequence, position in ((mask.queries, query), (mask.keys, key))
    )
    explanation = Explanation(mask.name, query, key, head, batch, of_query, of_key, attends, lines)
    if attends and not branches:
        said = scored(program, mask)
        explanation = replace(explanation, scores=_score_lines(said, pair), probability=said.probability)
    return replace(explanation, branch=mask.branch, branches=branches)


def _score_lines(said: Scored, pair: Pairs) -> tuple[ScoreLine, ...]:
    """What becomes of the score of a pair that attends."""

    def is_known(node: Expression) -> bool:
        return not reads(node).score and pair_trace(pair.mask, (node,)).inputs <= pair.inputs.keys()

    def value(node: Expression) -> Any:
        return pair.evaluate(node, np.asarray(True)).item()

    def text(pieces: Pieces) -> str:
        if isinstance(pieces, ByCondition):
            return text(pieces.then if value(pieces.condition) else pieces.otherwise)
        return "".join(each if isinstance(each, str) else _number(value(each)) for each in pieces)

    lines = []
    for each in said.statements:
        written = on_one_line(each.statement.span)
        pieces = () if each.meaning is None else pieces_of(each.meaning, is_known)
        try:
            filled = text(pieces) if has_values(pieces) else ""
        except AttnError:  # a read outside of a table, under conditions that are not put in
            filled = ""
        says_more = len(filled) <= _LONGEST and filled != written.partition(" ")[2]
        lines.append(ScoreLine(line_of(each.statement.span), written, filled if says_more else ""))
    return tuple(lines)


def _number(value: float) -> str:
    """Integers exactly, floats with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _coordinates(pair: Pairs, sequence: Sequence, position: int) -> dict[str, int | float | bool]:
    """The values of one token's coordinates by name: its axes, and the declared ones that some line reads."""
    mask, (space, offset) = pair.mask, _space_at(sequence, position)
    known = Coordinates(mask, sequence, pair.inputs, pair.batch, pair.head)
    cell = np.unravel_index(position - offset, space.lengths)
    values: dict[str, int | float | bool] = {}
    if len(space.axes) > 1 or len(sequence.spaces) > 1:  # otherwise the axis equals the position
        values |= {axis.name: int(each) for axis, each in zip(space.axes, cell, strict=True)}
    read = reads(*(clause.relation for clause in (*mask.attend, *mask.require)))
    needed = {each.name for each in read.coordinates}
    for definition in sequence.coordinates:
        known_here = trace(sequence, [Coordinate(Side.TOKEN, definition.name)]).inputs <= pair.inputs.keys()
        if known_here and definition.name in needed and any(name == space.name for name, _ in definition.sources):
            values[definition.name] = known.values(definition.name)[position].item()
    return values


def _space_at(sequence: Sequence, position: int) -> tuple[Space, int]:
    """The space of a token, and the position of its first token."""
    return next(
        (space, offset)
        for space, offset in zip(sequence.spaces, sequence.offsets, strict=True)
        if position < offset + space.size
    )


@dataclass(frozen=True)
class _LineReasons:
    """The lines of a pattern, explained for one pair."""

    pair: Pairs
    names: Names
    meaning: Callable[[Expression], Expression]

    def explained(self, declaration: tree.PatternDeclaration, frame: Frame) -> Iterator[LineReason]:
        """Yields the `attend` lines, then the `require` lines, each of which may assume those before it."""
        attends = [each for each in declaration.statements if isinstance(each, tree.AttendStatement)]
        requires = [each for each in declaration.statements if isinstance(each, tree.RequireStatement)]
        allowed: list[bool] = []
        whole: Expression = TRUE
        for attend in attends:
            line, value = self.line("attend", attend, frame, True)
            allowed.append(line.reason.holds)
            whole = value.expression if len(allowed) == 1 else apply(Op.OR, whole, value.expression)
            yield line
        asked, known = any(allowed), assuming(frame, Term(whole))
        for require in requires:
            line, value = self.line("require", require, known, asked)
            asked, known = asked and line.reason.holds, assuming(known, value)
            yield line
        yield from self.without_tokens({each.span for each in requires})

    def without_tokens(self, written: Container[Span]) -> Iterator[LineReason]:
        """Yields the lines of pools that forbid the pair as they have no tokens: what no `require` line says."""
        for clause in self.pair.mask.require:
            if clause.span is not None and clause.span not in written and not self.holds(clause.relation, True):
                side = next(each.side for each in reads(clause.relation).coordinates)
                reason = Reason(on_one_line(clause.span), False, f"the pool of the {side} has no tokens")
                yield LineReason(line_of(clause.span), "require", reason)

    def line(
        self, kind: str, statement: tree.AttendStatement | tree.RequireStatement, frame: Frame, asked: bool
    ) -> tuple[LineReason, Term]:
        frame = self.names.at(statement, frame)
        reason = self.reason(statement.relation, frame, asked)
        reason = replace(reason, text=on_one_line(statement.span))
        return LineReason(line_of(statement.span), kind, reason), _term(elaborate(statement.relation, frame))

    def reason(self, node: tree.Expression, frame: Frame, asked: bool) -> Reason:
        """A condition, split where its text is. If it is not `asked` for, reads outside tables are no errors."""
        match node:
            case tree.Binary(operator="and" | "or" as operator):
                operands = self.chained(chain(node), operator == "and", frame, asked)
            case tree.Where(relation=tree.Arrow() as arrow, condition=condition):
                spaces = self.reason(arrow, frame, asked)
                inside = assuming(frame, elaborate(arrow, frame))
                decision = self.reason(condition, inside, asked) if spaces.holds else spaces
                return replace(decision, text=on_one_line(node.span))
            case tree.Where(relation=relation, condition=condition):
                operands = self.chained([relation, condition], True, frame, asked)
            case tree.Unary(operator="not", operand=operand):
                operands = (self.reason(operand, frame, asked),)
            case tree.Conditional(condition=condition, then=then, otherwise=otherwise):
                decision = self.reason(condition, frame, asked)
                branch = then if decision.holds else otherwise
                inside = assuming(frame, elaborate(condition, frame), decision.holds)
                operands = (decision, self.reason(branch, inside, asked))
            case _:
                return self.condition(node, frame, asked)
        return Reason(on_one_line(node.span), self.holds(_term(elaborate(node, frame)).expression, asked), "", operands)

    def chained(self, nodes: list[tree.Expression], is_and: bool, frame: Frame, asked: bool) -> tuple[Reason, ...]:
        """The operands of `and` or `or`. Each assumes that those before it did not decide the result."""
        operands: list[Reason] = []
        for node in nodes:
            operands.append(self.reason(node, frame, asked))
            asked = asked and operands[-1].holds is is_and
            frame = assuming(frame, elaborate(node, frame), is_and)
        return tuple(operands)

    def holds(self, condition: Expression, asked: bool) -> bool:
        return bool(self.pair.evaluate(self.meaning(condition), np.asarray(asked)))

    def condition(self, node: tree.Expression, frame: Frame, asked: bool) -> Reason:
        """A condition that is not split: an arrow, a comparison, a call of a macro, a name."""
        condition = self.meaning(_term(elaborate(node, frame)).expression)
        reason = Reason(on_one_line(node.span), self.holds(condition, asked))
        if isinstance(node, tree.Arrow):
            return replace(reason, because="" if reason.holds else self.spaces(node))
        along = self.along_axes(condition) if isinstance(node, tree.Call | tree.Name | tree.Quantifier) else None
        if along is None:
            compared = self.compared(node, frame, asked) if isinstance(node, tree.Comparison) else ""
            return replace(reason, because=compared or self.values(condition, asked))
        if len(along) == 1:
            return replace(reason, because=along[0].text)
        return replace(reason, operands=tuple(along))

    def spaces(self, node: tree.Arrow) -> str:
        """Which end of an arrow a token is not in."""
        ends = (
            (node.query, "query", self.pair.mask.queries, self.pair.q),
            (node.key, "key", self.pair.mask.keys, self.pair.k),
        )
        others = [
            f"the {side} is in `{space.name}`"
            for name, side, sequence, position in ends
            for space in (_space_at(sequence, int(position))[0],)
            if name.id not in ("all", space.name)
        ]
        return " and ".join(others)

    def along_axes(self, condition: Expression) -> list[Reason] | None:
        """For each axis of the keys, whether the key is one that the query attends there.

        None if a part of the condition reads several coordinates of the key, or the keys are too scattered for words.
        """
        groups: dict[str, list[Expression]] = {}
        for each in conjuncts(condition):
            names = {leaf.name for leaf in reads(each).of(Side.KEY)}
            if len(names) != 1 or any(leaf.side is Side.KEY for leaf in reads(each).spaces):
                return None
            groups.setdefault(names.pop(), []).append(each)
        along = [self.along(name, apply(Op.AND, TRUE, *conditions)) for name, conditions in groups.items()]
        known = [each for each in along if each is not None]
        return known if known and len(known) == len(along) else None

    def along(self, name: str, condition: Expression) -> Reason | None:
        """Whether the key's index on one axis is among those for which the condition holds.

        None for what is no axis, and where other keys read outside a table, as `bias[q - k]` does.
        """
        sequence, position = self.pair.mask.keys, int(self.pair.k)
        space, offset = _space_at(sequence, position)
        if name == "i":
            keys, index = np.arange(sequence.length), position
        elif space.axis(name) is not None:
            axis = [each.name for each in space.axes].index(name)
            cell = np.unravel_index(position - offset, space.lengths)
            stride = int(np.prod(space.lengths[axis + 1 :], dtype=np.int64))
            index = int(cell[axis])
            keys = position + (np.arange(space.lengths[axis]) - index) * stride
        else:
            return None
        if len(keys) > _MOST_KEYS:
            return None
        try:
            holds = replace(self.pair, k=keys).evaluate(simplify(condition), np.asarray(True))
        except AttnError:
            return None
        text = key_sets.because("k" if name == "i" else f"k.{name}", index, holds)
        return None if text is None else Reason(text, bool(holds[index]))

    def compared(self, node: tree.Comparison, frame: Frame, asked: bool) -> str:
        """A comparison as it stands in the text, with the value of each operand; empty if that is unknown or long."""
        operands = [self.meaning(_term(elaborate(each, frame)).expression) for each in node.operands]
        if not asked and any(reads(each).inputs for each in operands):
            return ""
        values = [print_expression(self.constant(each)) for each in operands]
        text = " ".join([values[0], *(word for pair in zip(node.operators, values[1:], strict=True) for word in pair)])
        return text if len(text) <= _LONGEST else ""

    def values(self, condition: Expression, asked: bool) -> str:
        """The condition with the values of the pair, and both sides of comparisons computed; empty if that is long."""
        texts = [self.computed(each, asked) for each in conjuncts(condition)]
        text = " and ".join(each for each in texts if each)
        return text if len(text) <= _LONGEST else ""

    def computed(self, condition: Expression, asked: bool) -> str:
        if isinstance(condition, Read):
            for route in self.pair.mask.routed:
                if isinstance(route, Route) and route.name == condition.input:
                    return self.selected(route, condition)
        match condition:
            case Apply(op=Op.LESS_EQUAL, arguments=(Constant(value=0), Read(sparse=True) as read)):
                for draw in self.pair.mask.routed:
                    if isinstance(draw, Draw) and draw.name == read.input:
                        return self.drawn(draw, read)

        match condition:
            case Apply(op=Op.LESS_EQUAL, arguments=(Constant(value=0), Read(sparse=True, indices=(*_, row, column)))):
                stored = "has an entry" if self.constant(condition).value else "has no entry"
                return f"row {self.constant(row).value} {stored} in column {self.constant(column).value}"

        def fill(node: Expression) -> Expression | None:
            return self.constant(node) if isinstance(node, Coordinate | InSpace | Head | Batch) else None

        filled = rebuild(condition, fill)
        if isinstance(condition, Constant | Coordinate):
            return ""
        if isinstance(filled, Apply) and filled.op in COMPARISONS and (asked or not reads(filled).inputs):
            filled = apply(filled.op, *map(self.constant, filled.arguments))
        return print_expression(filled)

    def selected(self, route: Route, read: Read) -> str:
        """What a route selected for the query; empty if the pair is in no group."""
        table = self.pair.inputs[route.name]
        at = [self.pair.evaluate(each, np.asarray(False)).item() for each in read.indices]
        if not all(0 <= index < length for index, length in zip(at, table.shape, strict=True)):
            return ""
        return selected_groups.selected(route, at[-2], at[-1], table[tuple(at[:-1])])

    def drawn(self, draw: Draw, read: Read) -> str:
        """What a draw selected for the query."""
        *front, query, key = (self.pair.evaluate(each, np.asarray(False)).item() for each in read.indices)
        keys = np.arange(draw.keys.count)
        selection = entry_numbers(self.pair.inputs[draw.name], *map(np.asarray, (*front, query)), keys) >= 0
        return selected_groups.selected(draw, query, key, selection)

    def constant(self, expression: Expression) -> Constant:
        return Constant(self.pair.evaluate(expression, np.asarray(True)).item())


def _term(value: Value) -> Term:
    assert isinstance(value, Term), value  # the pattern was bound without errors
    return value


def on_one_line(span: Span) -> str:
    """The text of a span, on one line."""
    return " ".join(span.text.split())


def line_of(span: Span) -> str:
    """The file and the number of a line: `longformer.attn:6`."""
    return f"{printable(PurePath(span.source.name).name)}:{span.source.position(span.start)[0]}"

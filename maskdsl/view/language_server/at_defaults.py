"""The values of expressions of a pattern at its defaults: a number, or the range of an integer."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from maskdsl.base.diagnostics import AttnError
from maskdsl.bind.bind_pattern import frame_at
from maskdsl.bind.context.bound_values import AxesValue, AxisValue, Term, TupleValue, Value
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.expression.elaborate import elaborate
from maskdsl.ir.expressions import Side
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.heads import DEFAULT_HEADS
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree
from maskdsl.syntax.program import Program


def value_text(program: Program, path: Sequence[tree.Node]) -> str | None:
    """The value of the expression at the end of a path, in words; None if it is not known."""
    branch = ""
    match path:
        case [_, tree.PatternDeclaration() as pattern, tree.BranchStatement(name=name), statement, *around, node]:
            branch = name.id
        case [_, tree.PatternDeclaration() as pattern, statement, *around, node]:
            pass
        case _:
            return None
    if isinstance(statement, tree.LetStatement) and node is statement.name:
        node = statement.value
    try:
        _, names, frame = frame_at(program, pattern.name.id, {}, DEFAULT_HEADS, branch)
        frames = [names.at(statement, each) for each in _frames(statement, around, frame)]
        values = [_value(node, each) for each in frames]
    except AttnError:  # the lengths are wrong, or too much would be computed
        return None
    known = [value for value in values if value is not None]
    return _text(known) if known else None


def _frames(statement: tree.Node, around: Sequence[tree.Node], frame: Frame) -> Iterator[Frame]:
    """The frames of an expression of a statement: one for each space whose tokens it may mean, or one for pairs."""
    match statement:
        case tree.CoordinateStatement() | tree.OrderStatement():
            for side in (Side.QUERY, Side.KEY):
                for space in frame.declared.side(side).sequence.spaces:
                    pairs = frozenset({(space.name, space.name)})
                    yield replace(
                        frame, statement=StatementKind.TOKEN, token_side=side, bare_coordinates=True, pairs=pairs
                    )
        case tree.ScoreStatement() | tree.ValueStatement():
            yield replace(frame, statement=StatementKind.SCORE)
        case tree.AttendStatement() | tree.RequireStatement() | tree.WeightStatement() | tree.LetStatement():
            yield _guarded(around, frame)
        case tree.SinkStatement():
            yield frame
        case _:
            yield replace(frame, statement=StatementKind.CONSTANT)


def _guarded(around: Sequence[tree.Node], frame: Frame) -> Frame:
    """The frame narrowed to the spaces of an arrow before a `where`."""
    for each in around:
        match each:
            case tree.Where(relation=tree.Arrow(query=query, key=key)):
                ends = (query.id, key.id)
                pairs = (pair for pair in frame.pairs if all(a in (b, "all") for a, b in zip(ends, pair, strict=True)))
                frame = frame.where(pairs)
    return frame


def _value(node: tree.Node, frame: Frame) -> Value | None:
    trial = replace(frame, report=frame.report.trial())
    if not isinstance(node, tree.Expression):
        return None
    value = elaborate(node, trial)
    return None if trial.report.errors else value


def _text(values: Sequence[Value]) -> str | None:
    first = values[0]
    match first:
        case Term() if first.constant is not None:
            return str(first.constant)
        case Term(range=Range() as reach):
            for each in values[1:]:
                if isinstance(each, Term) and isinstance(each.range, Range):
                    reach = reach.joined(each.range)
            return f"an integer, {reach.low:,} to {reach.high:,}"
        case Term():
            return {Type.BOOL: "a condition", Type.FLOAT: "a float", Type.INT: "an integer"}[first.type]
        case TupleValue(items=items):
            return f"({', '.join(map(str, items))}{',' * (len(items) == 1)})"
        case AxisValue(name=name):
            return f"the coordinate `{name}`"
        case AxesValue(names=names):
            return "all axes" if names is None else f"the coordinates {', '.join(names)}"
        case _:
            return None

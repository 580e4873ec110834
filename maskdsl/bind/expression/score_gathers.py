"""Elaborates what scores of routes are made into: shares, extremes, and scores of other groups and of several heads.

Each is a table, which the score around it reads by the numbers of its groups.
"""

from dataclasses import replace

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.bind.context.bound_values import BAD, Bad, Term, Value, describe
from maskdsl.bind.context.frame import Frame, StatementKind
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.context.reading import read
from maskdsl.bind.context.score_levels import ALONE, Level, grouping_by, having_groups, level_of
from maskdsl.bind.context.terms import promoted
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.ir.expressions import PAIR, TRUE, Expression, Read, Side
from maskdsl.ir.ops import Type
from maskdsl.ir.values.group_scores import Extent, Extreme, Gather, GatherHeads, Grouping, GroupScores, Softmax, Step
from maskdsl.ir.values.token_vectors import PoolKind
from maskdsl.syntax import tree

_EXTREMES = {"max": PoolKind.MAX, "min": PoolKind.MIN}
_SHARES = "`softmax(score)` or `softmax(score, per = head)` is expected"
_GATHERS = {kind.value: kind for kind in PoolKind if kind is not PoolKind.ROOT}


def makes_table(call: tree.Call, frame: Frame) -> bool:
    """Whether a call makes a table of a score: by its form, as the same functions take numbers."""
    if frame.statement is not StatementKind.ROUTE:
        return False
    name, plain = call.function.id, [each for each in call.arguments if each.name is None]
    options = {each.name.id for each in call.arguments if each.name is not None}
    gathers = bool(plain) and (any(each.by is not None for each in plain) or "heads" in options)
    return name == "softmax" or (name in _GATHERS and gathers) or (name in _EXTREMES and len(plain) == 1)


def table_of(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    """The read of the table that a call makes of its score."""
    allowed = {"per"} if call.function.id == "softmax" else {"per", "heads"}
    plain = [each for each in call.arguments if each.name is None]
    options = {each.name.id: each.value for each in call.arguments if each.name is not None}
    if len(plain) != 1 or not options.keys() <= allowed or ("per" in options and plain[0].by is not None):
        name = call.function.id
        expected = f"`{name}(score by k.c)` or `{name}(score, heads = key_head)` is expected"
        expected = _SHARES if name == "softmax" else expected
        return frame.add(route_errors.WrongGather(span=call.span, function=name, expected=expected))
    node, condition = _score_and_condition(plain[0].value)
    if condition is not None and call.function.id != "softmax":
        return frame.add(route_errors.WhereInGather(span=condition.span, function=call.function.id))
    assumed = frame if condition is None else _assuming(condition, frame, elaborate)
    score = elaborate(node, assumed)
    if not isinstance(score, Term) or score.type is Type.BOOL:
        if not isinstance(score, Bad):
            frame.add(TypeMismatch(span=node.span, what="a score", found=describe(score), expected="a float"))
        return BAD
    expression = promoted(frame, score).expression
    level = level_of(expression, node.span, frame)
    steps = BAD if isinstance(level, Bad) else _steps(call, plain[0].by, options, condition, level, frame, elaborate)
    if isinstance(level, Bad) or isinstance(steps, Bad):
        return BAD
    made = _extended(expression, level, steps, call, frame)
    known = frame.declared.tables
    equal = (name for name, each in known.items() if replace(each, name="") == made)
    name = next(equal, f"scores {len(known)}")  # no name that an input could have
    known[name] = replace(made, name=name)
    indices = (grouping.index(side) for side, grouping in zip(PAIR, made.result, strict=True) if grouping != ALONE)
    return Term(Read(name, tuple(indices), Type.FLOAT, span=call.span), size=3, depth=2)


def _score_and_condition(node: tree.Expression) -> tuple[tree.Expression, tree.Expression | None]:
    """A score, and the condition behind its `where`."""
    return (node.relation, node.condition) if isinstance(node, tree.Where) else (node, None)


def _assuming(condition: tree.Expression, frame: Frame, elaborate: Elaborate) -> Frame:
    """The frame in which a condition holds; reports about it come where it is elaborated in its place."""
    return assuming(frame, elaborate(condition, replace(frame, report=frame.report.trial())))


def _extended(score: Expression, level: Level, steps: tuple[Step, ...], call: tree.Call, frame: Frame) -> GroupScores:
    """Scores with these steps: behind those of a table, if the score is nothing else."""
    before = frame.declared.tables.get(score.input) if isinstance(score, Read) else None
    among = any(isinstance(each, Softmax) and each.among is not None for each in steps)
    if before is not None and not (among and before.result != (before.queries, before.keys)):
        return replace(before, name="", steps=(*before.steps, *steps))
    return GroupScores("", *level, (), score, TRUE, level, steps, span=call.span)


def _steps(
    call: tree.Call,
    by: tree.Expression | None,
    options: dict[str, tree.Expression],
    condition: tree.Expression | None,
    level: Level,
    frame: Frame,
    elaborate: Elaborate,
) -> tuple[Step, ...] | Bad:
    function = call.function.id
    per = extent_of(options.get("per"), level, frame)
    if isinstance(per, Bad):
        return BAD
    if function == "softmax":
        if condition is None:
            return (Softmax(per),)
        among = elaborate(condition, having_groups(level, frame))
        if isinstance(among, Term) and among.type is Type.BOOL:
            return (Softmax(per, among.expression),)
        if not isinstance(among, Bad):
            frame.add(TypeMismatch(span=condition.span, what="this", found=describe(among), expected="a relation"))
        return BAD
    if by is None and "heads" not in options:
        return (Extreme(_EXTREMES[function], per),)
    steps: list[Step] = []
    if by is not None:
        groups = _groups(by, level, frame)
        if isinstance(groups, Bad):
            return BAD
        steps.append(Gather(_GATHERS[function], *groups))
    match options.get("heads"):
        case None:
            pass
        case tree.Name(id="all" | "key_head" as heads):
            steps.append(GatherHeads(_GATHERS[function], heads == "key_head"))
        case node:
            return frame.add(route_errors.WrongHeadPool(span=node.span))
    return tuple(steps)


def _groups(by: tree.Expression, level: Level, frame: Frame) -> Level | Bad:
    """The groups that `q.c`, `k.c` or `(q.c, k.c)` name; those of the score on a side that is not named."""
    nodes = by.items if isinstance(by, tree.Tuple) else (by,)
    groups: dict[Side, Grouping] = dict(zip(PAIR, level, strict=True))
    named: set[Side] = set()
    for node in nodes:
        side, name = _coordinate(node)
        if side is None or side in named:
            return frame.add(route_errors.WrongGroups(span=node.span))
        named.add(side)
        value = read(replace(frame, pairs=frozenset()), side, name, node.span)
        group = value if isinstance(value, Bad) else grouping_by(name, side, node.span, frame)
        if isinstance(group, Bad):
            return BAD
        groups[side] = group
    return groups[Side.QUERY], groups[Side.KEY]


def _coordinate(node: tree.Expression) -> tuple[Side | None, str]:
    sides = {side.letter: side for side in PAIR}
    match node:
        case tree.Name(id="q" | "k" as letter):
            return sides[letter], "i"
        case tree.Attribute(base=tree.Name(id="q" | "k" as letter), name=tree.Name(id=name)):
            return sides[letter], name
        case _:
            return None, ""


def extent_of(node: tree.Expression | None, level: Level, frame: Frame) -> Extent | Bad:
    """The pairs that `per = ...` names: those of a query group, if nothing is written."""
    if node is None:
        return Extent.KEY if level[0] != ALONE and level[1] == ALONE else Extent.QUERY
    sides = {Side.QUERY: Extent.QUERY, Side.KEY: Extent.KEY}
    match node:
        case tree.Name(id="head"):
            return Extent.HEAD
        case tree.Name(id="batch"):
            return Extent.BATCH
        case tree.Tuple(items=(tree.Name(id="batch"), of_key)) if _coordinate(of_key) == (Side.KEY, level[1].by):
            return Extent.KEY_OF_ALL_HEADS
    side, name = _coordinate(node)
    if side is not None and level[side is Side.KEY].by == name:
        return sides[side]
    groups = [f"{side.letter}.{each.by}" for side, each in zip(PAIR, level, strict=True) if each.by not in (None, "i")]
    names = [each.removesuffix(".i") for each in (*groups, *(["q", "k"] if not groups else ()))]
    return frame.add(route_errors.WrongScope(span=node.span, names=" or ".join(f"`per = {each}`" for each in names)))

"""Binds routes that select by a score: the groups that are scored, the candidates, the selector."""

from collections.abc import Iterator
from dataclasses import replace

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.parameters import MissingArgument
from maskdsl.base.errors.language.types import TypeMismatch
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import BAD, Bad, Term, describe
from maskdsl.bind.context.frame import Declared, Frame, StatementKind, TableRoute
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.context.head_scopes import HeadScope, scope_of
from maskdsl.bind.context.score_levels import ALONE, Level, decides, differs, grouping_by, having_groups, level_of
from maskdsl.bind.context.terms import promoted
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.expression.score_gathers import extent_of
from maskdsl.bind.route.score_tables import fits, group_table, products_of, table_levels, with_candidates, with_tables
from maskdsl.ir.expressions import (
    FALSE,
    PAIR,
    TRUE,
    Constant,
    Coordinate,
    Expression,
    Read,
    Side,
    substitute,
    walk,
)
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Above, Route, Selector, TopCount, TopMass, selector_argument
from maskdsl.ir.values.group_scores import GROUP, Extent, Grouping
from maskdsl.syntax import tree

_ALONE = Constant(0)
"""The group number on a side where all tokens are one group."""


def selected(
    statement: tree.RouteStatement, given: dict[str, tree.Expression], frame: Frame, elaborate: Elaborate
) -> Declared | Bad:
    name, declared = statement.name.id, frame.declared
    scoring = replace(frame, statement=StatementKind.ROUTE)
    node = given.get("score", given.get("weights"))
    if node is None:
        return frame.add(MissingArgument(span=statement.selector.span, function="topp", name="score"))
    if "score" in given and "weights" in given:
        return frame.add(route_errors.ScoreAndWeights(span=given["weights"].span))
    score = elaborate(node, _guarded(statement, scoring, elaborate))
    if not isinstance(score, Term) or score.type is Type.BOOL:
        if not isinstance(score, Bad):
            result = describe(score)
            frame.add(TypeMismatch(span=node.span, what="the score of a route", found=result, expected="a float"))
        return BAD
    value = promoted(scoring, score).expression
    groups = _groups(statement, value, node.span, scoring, elaborate)
    if isinstance(groups, Bad):
        return BAD
    level, joint, relations = groups
    for side, grouping in zip(PAIR, level, strict=True):
        if grouping.span > 1:
            by = f"{side.letter}.{grouping.by}"
            return frame.add(route_errors.OverlappingGroups(span=node.span, route=name, side=side.plural, by=by))
    selector = _selector(statement, given, level, scoring, elaborate)
    if isinstance(selector, Bad):
        return BAD
    value, candidates, always = (_by_group(each, joint) for each in (value, *relations))
    wider = _candidate_groups(candidates, level, value, frame)
    checked = [(value, node), (always, statement.always), (selector_argument(selector), given[_first(given)])]
    checked += [(candidates, statement.candidates)] if wider in (None, level) else []
    for expression, text in checked:
        if not _constant_in_groups(expression, level, (text or node).span, frame):
            return BAD
    made = with_tables(name, value, candidates, level if wider is None else wider, frame)
    written, value = (value, candidates), substitute(value, made.reads)
    if wider is not None and wider != level:
        made, candidates = with_candidates(name, candidates, level, wider, made)
    products = products_of(value, frame)
    route = Route(name, *level, products, value, selector, candidates, always, span=statement.span)
    levels = (level,) if wider is None else (level, wider)
    scope = scope_of((*written, always, selector_argument(selector)), levels, made.frame)
    if selector.per in (Extent.BATCH, Extent.KEY_OF_ALL_HEADS):  # the first of equal heads selects more
        scope = HeadScope.HEADS
    table, heads = group_table(name, Type.BOOL, level, scope, statement.span, made.frame)
    query, key = (_ALONE if each is None else each for each in (level[0].by, joint or level[1].by))
    routes = {
        **declared.routes,
        name: TableRoute(name, query, key, heads),
    }
    declared = made.frame.declared
    return replace(declared, inputs=(*declared.inputs, table), routed=(*declared.routed, route), routes=routes)


def _called(statement: tree.RouteStatement) -> tree.Call:
    assert isinstance(statement.selector, tree.Call)
    return statement.selector


def _guarded(statement: tree.RouteStatement, frame: Frame, elaborate: Elaborate) -> Frame:
    """The frame in which the `where` holds. What is wrong with it is reported where its groups are known."""
    if statement.candidates is None:
        return frame
    trial = replace(frame, statement=StatementKind.PAIR, report=frame.report.trial())
    return assuming(frame, elaborate(statement.candidates, trial))


def _groups(
    statement: tree.RouteStatement, score: Expression, span: Span, frame: Frame, elaborate: Elaborate
) -> tuple[Level, Expression | None, tuple[Expression, Expression]] | Bad:
    """The groups of a route, the index that numbers those of keys, if it is of both tokens, and its two relations."""
    joint = next((index for index, _ in _entries(score, frame) if all(map(reads(index).of, PAIR))), None)
    trial = replace(frame, report=frame.report.trial()) if joint is not None else frame
    level = (ALONE, ALONE) if joint is not None else level_of(score, span, trial)
    if isinstance(level, Bad):
        return BAD
    relations = _relations(statement, level, frame, elaborate)
    if relations is None:
        return BAD
    tokens = [set(reads(*relations).names(side)) for side in PAIR]
    if joint is not None:
        if not any(tokens):
            entries = min(count for index, count in _entries(score, frame) if index == joint)
            return (ALONE, Grouping(None, entries)), joint, relations
        level = level_of(score, span, frame)
        if isinstance(level, Bad):
            return BAD
    finer = [
        _refined(grouping, names, side, score, span, frame)
        for grouping, names, side in zip(level, tokens, PAIR, strict=True)
    ]
    queries, keys = finer
    if isinstance(queries, Bad) or isinstance(keys, Bad):
        return BAD
    if level == (ALONE, ALONE):
        return _reads_nothing(statement.name.id, score, span, frame)
    return (queries, keys), None, relations


def _refined(
    grouping: Grouping, names: set[str], side: Side, score: Expression, span: Span, frame: Frame
) -> Grouping | Bad:
    """The groups of a side: finer ones than those of the score, if relations tell its groups apart."""
    levels = [grouping, *(each[side is Side.KEY] for each in table_levels(score, frame))]
    told = [name for name in names if not any(fits(each, {name}, side, frame) for each in levels)]
    if not told or (grouping != ALONE and (grouping.by is None or side is Side.KEY)):
        return grouping  # finer groups of keys would be others that are selected
    made = [grouping_by(name, side, span, frame) for name in sorted(told)]
    groups = [each for each in made if not isinstance(each, Bad)]
    if len(groups) < len(made):
        return BAD
    finest = [one for one in groups if all(decides(one, other, side, frame) for other in (*groups, grouping))]
    return finest[0] if finest else grouping


def _candidate_groups(candidates: Expression, level: Level, score: Expression, frame: Frame) -> Level | None:
    """The groups that candidates are pairs of: the route's, or finer ones that its score is computed through.

    None where the candidates depend on no groups that are known.
    """
    chosen = []
    for side in PAIR:
        names = set(reads(candidates).names(side)) - {GROUP}
        levels = [level[side is Side.KEY], *(each[side is Side.KEY] for each in table_levels(score, frame))]
        fitting = [each for each in levels if fits(each, names, side, frame)]
        if not fitting:
            return None
        chosen.append(fitting[0])
    return chosen[0], chosen[1]


def _reads_nothing(name: str, score: Expression, span: Span, frame: Frame) -> Bad:
    return frame.add(route_errors.ReadsNoKey(span=span, route=name, what="neither a query nor a key", name="worth"))


def _first(given: dict[str, tree.Expression]) -> str:
    """The name of the selector's argument beside its score."""
    return next(each for each in ("count", "mass", "threshold") if each in given)


def _selector(
    statement: tree.RouteStatement, given: dict[str, tree.Expression], level: Level, frame: Frame, elaborate: Elaborate
) -> Selector | Bad:
    first = _first(given)
    value = elaborate(given[first], frame)
    wanted = Type.INT if first == "count" else Type.FLOAT
    if isinstance(value, Term) and value.type is Type.INT and wanted is Type.FLOAT:
        value = promoted(frame, value)
    if not isinstance(value, Term) or value.type is not wanted:
        if not isinstance(value, Bad):
            expected = "an integer" if wanted is Type.INT else "a float"
            what = f"the {first} of `{_called(statement).function.id}`"
            frame.add(TypeMismatch(span=given[first].span, what=what, found=describe(value), expected=expected))
        return BAD
    per = extent_of(given.get("per"), level, frame)
    if isinstance(per, Bad):
        return BAD
    read = reads(value.expression)
    wrong = {Extent.QUERY: Side.KEY, Extent.KEY: Side.QUERY, Extent.KEY_OF_ALL_HEADS: Side.QUERY}.get(per)
    sides = PAIR if wrong is None else (wrong,)
    if any(read.names(side) for side in sides):
        return frame.add(route_errors.ArgumentOfPair(span=given[first].span, what=f"the {first}"))
    match first:
        case "count":
            return TopCount(value.expression, per)
        case "threshold":
            return Above(value.expression, per)
        case _:
            reach = _constant_flag(given.get("reach"), frame, elaborate)
            return BAD if reach is None else TopMass(value.expression, per, "weights" in given, reach)


def _constant_flag(node: tree.Expression | None, frame: Frame, elaborate: Elaborate) -> bool | None:
    """A boolean that is known when the pattern is bound, true if it is left out; None, with a report, for others."""
    if node is None:
        return True
    value = elaborate(node, replace(frame, statement=StatementKind.CONSTANT))
    if isinstance(value, Term) and isinstance(value.constant, bool):
        return value.constant
    if not isinstance(value, Bad):
        frame.add(TypeMismatch(span=node.span, what="`reach`", found=describe(value), expected="True or False"))
    return None


def _entries(score: Expression, frame: Frame) -> Iterator[tuple[Expression, int]]:
    """The indices by which the score reads tables, and how many entries each chooses from."""
    for node in walk(score):
        table = frame.declared.input(node.input) if isinstance(node, Read) else None
        if isinstance(node, Read) and table is not None:
            for index, dimension in zip(node.indices, table.dimensions, strict=True):
                yield index, dimension.size or 1


def _by_group(expression: Expression, joint: Expression | None) -> Expression:
    """The expression with the key's group number in place of the expression that computes it."""
    return expression if joint is None else substitute(expression, {joint: Coordinate(Side.KEY, GROUP)})


def _relations(
    statement: tree.RouteStatement, level: Level, frame: Frame, elaborate: Elaborate
) -> tuple[Expression, Expression] | None:
    """The relations behind `where` and `always`. None, with a report, if one is wrong."""
    inside = having_groups(level, replace(frame, statement=StatementKind.PAIR))
    relations: list[Expression] = []
    for node, absent in ((statement.candidates, TRUE), (statement.always, FALSE)):
        value = Term(absent) if node is None else elaborate(node, inside)
        if isinstance(value, Term) and value.type is Type.BOOL:
            relations.append(value.expression)
        elif not isinstance(value, Bad) and node is not None:
            frame.add(TypeMismatch(span=node.span, what="this", found=describe(value), expected="a relation"))
    return (relations[0], relations[1]) if len(relations) == len(PAIR) else None


def _constant_in_groups(expression: Expression, level: Level, span: Span, frame: Frame) -> bool:
    """Whether the coordinates that are read have one value in each group, as far as that is known before a call."""
    for side, grouping in zip(PAIR, level, strict=True):
        read = reads(expression)
        names = {each.name for each in read.of(side)}
        spaces = {each.space for each in read.spaces if each.side is side}
        if grouping.by is None and (names | spaces) - {GROUP}:
            name = min((names | spaces) - {GROUP})
            frame.add(route_errors.OfNoGroup(span=span, name=name, side=side.plural))
            return False
        if grouping.by in (None, "i"):
            continue
        for name in sorted(names - {grouping.by}):
            if differs(grouping.by, name, side, frame):
                frame.add(route_errors.NotOfGroup(span=span, name=name, group=grouping.by))
                return False
    return True

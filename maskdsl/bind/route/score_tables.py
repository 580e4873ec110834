"""Declares the tables of a route: what it selects, and the tables of scores that it reads."""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.head_scopes import HeadScope, scope_of, table_scope
from maskdsl.bind.context.score_levels import ALONE, Level, decides, differs, tables_read
from maskdsl.bind.expression.table_inputs import BATCH, heads_dimension
from maskdsl.ir.declared.inputs import KEY_HEADS, Dimension, DimensionKind, Input
from maskdsl.ir.expressions import PAIR, TRUE, Batch, Constant, Expression, Head, Read, Side, apply, substitute
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.values.group_scores import Gather, GatherHeads, Grouping, GroupScores, Product, scores_name
from maskdsl.ir.values.token_vectors import all_expressions


def table_levels(score: Expression, frame: Frame) -> Iterator[Level]:
    """The groups that a score is computed through."""
    for each in _tables_of(score, frame):
        yield from each.levels


def _tables_of(score: Expression, frame: Frame) -> list[GroupScores]:
    """The tables that a score reads, each behind those that it reads itself."""
    tables: dict[str, GroupScores] = {}
    for name in tables_read(score, frame):
        table = frame.declared.tables.get(name)
        if table is not None:
            tables |= {each.name: each for each in (*_tables_of(table.score, frame), table)}
    return list(tables.values())


def fits(grouping: Grouping, names: Collection[str], side: Side, frame: Frame) -> bool:
    """Whether tokens of one group have one value of each of these coordinates, as far as that is known."""
    if grouping.by in (None, "i"):
        return grouping.by == "i" or not names
    return not any(name != grouping.by and differs(grouping.by, name, side, frame) for name in names)


def _read(table: GroupScores) -> Read:
    """How scores read a table before it is declared."""
    indices = (each.index(side) for side, each in zip(PAIR, table.result, strict=True) if each != ALONE)
    return Read(table.name, tuple(indices), Type.FLOAT)


def _split(table: GroupScores, candidates: Expression, frame: Frame) -> Iterator[GroupScores]:
    """The table, or several that read each other: pairs are candidates again of other groups, and of each head."""
    level = table.queries, table.keys
    steps = () if candidates == TRUE else table.steps[:-1]
    for number, step in enumerate(steps):
        target = (step.queries, step.keys) if isinstance(step, Gather) else level
        differ = isinstance(step, GatherHeads) and scope_of((candidates,), (level,), frame) is not HeadScope.NONE
        if differ or not all(_is_within(*each, frame) for each in zip(level, target, PAIR, strict=True)):
            first = replace(table, name=f"{table.name} {len(table.steps)}", steps=table.steps[: number + 1])
            yield first
            rest = replace(table, queries=target[0], keys=target[1], products=(), score=_read(first))
            yield from _split(replace(rest, steps=table.steps[number + 1 :]), candidates, frame)
            return
        level = target
    yield table


def _is_within(one: Grouping, other: Grouping, side: Side, frame: Frame) -> bool:
    """Whether each of the groups is known to be within one other group."""
    return one == other or (one.span == 1 and decides(one, other, side, frame))


def _tells(grouping: Grouping, names: Collection[str], side: Side, frame: Frame) -> bool:
    """Whether groups of a table of scores tell whether they are candidates; overlapping ones have several values."""
    return not names or (grouping.span == 1 and fits(grouping, names, side, frame))


def products_of(score: Expression, frame: Frame) -> tuple[Product, ...]:
    """The products that a score reads, each behind those that its own vectors read."""
    known, products = frame.declared.products, dict[str, Product]()

    def add(expressions: Iterable[Expression]) -> None:
        for name in reads(*expressions).inputs:
            if name in known and name not in products:
                for vector in (known[name].left, known[name].right):
                    add(all_expressions(vector))
                products[name] = known[name]

    add([score])
    return tuple(products.values())


def group_table(
    name: str, kind: Type, level: Level, scope: HeadScope, span: Span | None, frame: Frame
) -> tuple[Input, tuple[Expression, ...]]:
    """The declaration of a table of groups, and what its dimension of heads is read by, if it has one."""
    heads, dimensions = frame.declared.heads, [BATCH]
    indices: tuple[Expression, ...] = ()
    if scope is HeadScope.KEY_HEADS and heads.key_heads is not None and heads.are_all:
        shared = heads.whole // heads.key_heads
        dimensions.append(Dimension(DimensionKind.FIXED, heads.key_heads, KEY_HEADS))
        indices = (apply(Op.FLOOR_DIVIDE, Head(), Constant(shared)),)
    elif scope is not HeadScope.NONE:
        dimensions.append(heads_dimension(frame.declared))
        indices = (Head(),)
    dimensions += (Dimension(DimensionKind.FIXED, each.count, str(each.count)) for each in level)
    return Input(name, kind, tuple(dimensions), span=span), indices


@dataclass(frozen=True)
class MadeTables:
    """The tables of scores of one route, declared."""

    frame: Frame
    reads: dict[Expression, Expression]
    """Their reads, and what stands for these in the score."""


def with_tables(name: str, score: Expression, candidates: Expression, wider: Level, frame: Frame) -> MadeTables:
    """Declares the tables that a score reads, and those that they read, for the candidates of the route `name`."""
    made: dict[Expression, Expression] = {}
    split = [table for each in _tables_of(score, frame) for table in _split(each, candidates, frame)]
    known_tables = {**frame.declared.tables, **{table.name: table for table in split}}
    frame = replace(frame, declared=replace(frame.declared, tables=known_tables))
    for table in split:
        before_steps = table.queries, table.keys
        read = reads(candidates)
        known = all(_tells(each, read.names(side), side, frame) for side, each in zip(PAIR, before_steps, strict=True))
        value = substitute(table.score, made)
        products = products_of(value, frame)
        unique = scores_name(name, len(made))
        bound = replace(table, name=unique, products=products, candidates=candidates)
        bound = replace(bound, wider=before_steps if known else wider)
        scope = table_scope(bound, frame)
        bound = replace(bound, score=value)
        given, heads = group_table(unique, Type.FLOAT, table.result, scope, table.span, frame)
        made[_read(table)] = Read(unique, (Batch(), *heads, *_group_indices(table.result)), Type.FLOAT, span=table.span)
        declared = frame.declared
        tables = {**declared.tables, unique: bound}
        declared = replace(declared, inputs=(*declared.inputs, given), routed=(*declared.routed, bound), tables=tables)
        frame = replace(frame, declared=declared)
    return MadeTables(frame, made)


def with_candidates(
    name: str, candidates: Expression, level: Level, wider: Level, made: MadeTables
) -> tuple[MadeTables, Expression]:
    """Declares a table of the candidates of a route that other groups tell, and returns them as the route reads it.

    It is zero for them, and NaN for others, as tables of scores are.
    """
    frame = made.frame
    table = GroupScores(scores_name(name, len(made.reads)), *level, (), Constant(0.0), candidates, wider, ())
    given, heads = group_table(table.name, Type.FLOAT, level, table_scope(table, frame), None, frame)
    declared = frame.declared
    declared = replace(declared, inputs=(*declared.inputs, given), routed=(*declared.routed, table))
    read = Read(table.name, (Batch(), *heads, *_group_indices(level)), Type.FLOAT)
    return replace(made, frame=replace(frame, declared=declared)), apply(Op.EQUAL, read, Constant(0.0))


def _group_indices(level: Level) -> tuple[Expression, ...]:
    """What a table of these groups is read by."""
    return tuple(Constant(0) if each == ALONE else each.index(side) for side, each in zip(PAIR, level, strict=True))

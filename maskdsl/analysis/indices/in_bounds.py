"""Proves that table reads stay inside their tables for all pairs that attend. Exact, without work on all pairs.

For each read, this module searches for a pair that attends, reads the element, and has an index outside the table, over
the axis indices of each pair of spaces. It first uses only conditions on the variables that the index reads, which
mostly suffice, then all conditions.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, replace
from enum import Enum, auto

from maskdsl.analysis.indices.axis_expressions import AxisExpressions
from maskdsl.analysis.indices.pair_search import BUDGET, PairSearch
from maskdsl.analysis.indices.witness import TooFine, value_at
from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.language.tables import ReadOutside
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import said
from maskdsl.ir.declared.sequences import Computed, Sequence, Space
from maskdsl.ir.expressions import PAIR, Apply, Constant, Coordinate, Expression, Read, Side, apply, rebuild
from maskdsl.ir.facts.intervals import Array
from maskdsl.ir.facts.ranges import ENTRY_NUMBERS, Range, expression_range, mask_leaf
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.table_reads import GuardedRead, TableReads, is_inside, leaves
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.routes import Rank, Route, Scored, pair_expressions, selector_argument
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.group_scores import GroupScores
from maskdsl.ir.values.token_vectors import ValueTerm, VectorProduct, Window

NO_LIMIT = 1 << 62

Positions = Mapping[Side, tuple[Sequence, Space]]


@dataclass(frozen=True)
class IndexQuestion:
    """Whether one index of a read leaves its table where all guards hold, for tokens of these spaces."""

    read: Read
    axis: int
    size: int
    guards: tuple[Expression, ...]
    positions: Positions
    groups: Mapping[Side, int] = field(default_factory=dict)
    exact: bool = True
    """Whether every token of the spaces is meant; false for routes that read first tokens of groups only."""

    @property
    def index(self) -> Expression:
        """The index in question."""
        return self.read.indices[self.axis]


class IndexVerdict(Enum):
    """The answer to a question without a pair whose index is outside."""

    INSIDE = auto()  # inside for all pairs that attend, whatever the unknown inputs
    OPEN = auto()  # depends on unknown inputs, or the search takes too long


@dataclass(frozen=True)
class Outside:
    """An index outside its table: its value, and the declared positions of an attending pair, or of one token."""

    value: int
    reach: Range
    """The range of the index over all pairs that attend."""
    query: int | None = None
    key: int | None = None


def in_bounds(mask: MaskIR) -> MaskIR:
    """The mask with all float reads marked `open` that may leave their tables, as far as is known without inputs.

    Raises `ReadOutside` if a read leaves its table for an attending pair, whatever the inputs.
    """
    errors: dict[tuple[str, Expression], Diagnostic] = {}
    still_open: dict[Read, None] = {}
    for question in _questions(mask):
        match answer(mask, question, {}):
            case Outside() as outside:
                name, _ = written(mask, question)
                errors.setdefault((name, question.index), _diagnostic(mask, question, outside))
            case IndexVerdict.OPEN:
                still_open[question.read] = None
    if errors:
        raise AttnError(*errors.values())
    return _opened(mask, frozenset(read for read in still_open if read.type is Type.FLOAT))


def where(outside: Outside) -> str:
    """The pair or the token, in words."""
    if outside.key is None:
        return f"for token {outside.query}"
    return f"for query {outside.query} and key {outside.key}"


def written(mask: MaskIR, question: IndexQuestion) -> tuple[str, int]:
    """The table that a question is about as the pattern names it, and the index there of its entry 0.

    A table of products of vectors, or of masses, stands for the rows that it keeps as axes.
    """
    read = question.read
    tables: tuple[VectorProduct | ValueTerm, ...] = (*mask.products, *mask.values)
    for made in tables:
        if made.name == read.input:
            windows = [(row.input, each.first) for row in made.rows for each in row.windows]
            return windows[question.axis - (len(read.indices) - len(windows))]
    return said(read.input), 0


def _diagnostic(mask: MaskIR, question: IndexQuestion, outside: Outside) -> Diagnostic:
    name, first = written(mask, question)
    return ReadOutside(
        span=question.index.span or question.read.span,
        name=name,
        low=outside.reach.low + first,
        high=outside.reach.high + first,
        last=question.size + first - 1,
        value=outside.value + first,
        where=where(outside),
    )


def _opened(mask: MaskIR, elements: frozenset[Read]) -> MaskIR:
    """The mask with these reads marked `open`."""
    if not elements:
        return mask

    def marked(node: Expression) -> Expression | None:
        return replace(node, open=True) if isinstance(node, Read) and simplify(node) in elements else None

    return mask.mapped(lambda expression: rebuild(expression, marked))


# Questions


def _questions(mask: MaskIR) -> Iterator[IndexQuestion]:
    """Yields a question for every index that static ranges do not prove to be inside."""
    tables = TableReads(mask)
    ranges = mask_leaf(mask)
    attending = (
        *mask.pair_values,
        *(each.weight for each in mask.values),
        *(() if mask.factor is None else (mask.factor,)),
    )
    guarded = [
        *((each, ()) for each in (mask.relation, *mask.sinks)),
        *((each, (mask.relation,)) for each in attending),
    ]
    pairs: list[Positions] = [
        {Side.QUERY: (mask.queries, query), Side.KEY: (mask.keys, key)}
        for query in mask.queries.spaces
        for key in mask.keys.spaces
    ]
    for expression, guards in guarded:
        for read in tables.of(expression, guards):
            for axis, size in _open_axes(mask, read.node):
                if not is_inside(expression_range(read.node.indices[axis], ranges), size) and not _is_guarded(
                    read, axis
                ):
                    yield from (IndexQuestion(read.node, axis, size, read.guards, positions) for positions in pairs)
    for row in mask.rows:
        *axes, _ = range(len(row.read.indices))
        for axis, size in _open_axes(mask, row.read):
            if axis in axes and not isinstance(row.indices[axis], Window):
                yield from (IndexQuestion(row.read, axis, size, (mask.relation,), positions) for positions in pairs)
    for expression, positions in _token_values(mask):
        for read in tables.of(expression):
            for axis, size in _open_axes(mask, read.node):
                yield IndexQuestion(read.node, axis, size, read.guards, positions)
    for route in mask.routed:
        if isinstance(route, Scored):
            yield from _route_questions(mask, tables, route, pairs)


def _token_values(mask: MaskIR) -> Iterator[tuple[Expression, Positions]]:
    """Yields the expressions over every token of a space: coordinates, sort keys, and whether it is pooled."""
    for sequence in dict.fromkeys((mask.queries, mask.keys, *(groups.tokens for _, groups in mask.groupings))):
        spaces = {space.name: {Side.TOKEN: (sequence, space)} for space in sequence.spaces}
        for definition in sequence.coordinates:
            for name, source in definition.sources:
                if isinstance(source, Computed):
                    yield source.value, spaces[name]
        for space, keys in zip(sequence.spaces, sequence.order, strict=False):
            yield from ((key, spaces[space.name]) for key in keys)
    for routed in mask.routed:
        if isinstance(routed, Rank):
            sequence = mask.sequences[routed.side]
            ranked = sequence.space(routed.space)
            assert ranked is not None
            yield from ((key, {Side.TOKEN: (sequence, ranked)}) for key in routed.keys)
        if isinstance(routed, Scored):
            for side, sequence in mask.sequences.items():
                for expression in routed.over_token(side):
                    yield from ((expression, {Side.TOKEN: (sequence, space)}) for space in sequence.spaces)


def _route_questions(
    mask: MaskIR, tables: TableReads, route: Scored, pairs: list[Positions]
) -> Iterator[IndexQuestion]:
    """Yields the questions of a route: of its score where there are candidates, its candidates, and its selector."""
    groups = {Side.QUERY: route.queries.count, Side.KEY: route.keys.count}
    group_numbers = {route.queries.index(Side.QUERY), route.keys.index(Side.KEY)}
    known = isinstance(route, Route) or route.wider == (route.queries, route.keys)
    guards = (route.candidates,) if known else ()
    rows = (row.read for each in route.products for row in each.rows)
    argument = selector_argument(route.selector) if isinstance(route, Route) else Constant(0)
    others = [each for each in pair_expressions(route) if each not in (route.score, argument)]
    scored = [read for each in (route.score, *rows) for read in tables.of(each, guards)]
    for read in (*scored, *(read for each in others for read in tables.of(each))):
        exact = group_numbers.issuperset(reads(*read.guards, read.node).coordinates)
        for axis, size in _open_axes(mask, read.node):
            yield from (IndexQuestion(read.node, axis, size, read.guards, each, groups, exact) for each in pairs)
    for read in tables.of(argument):
        yield from (
            IndexQuestion(read.node, axis, size, read.guards, pairs[0]) for axis, size in _open_axes(mask, read.node)
        )


def _open_axes(mask: MaskIR, read: Read) -> Iterator[tuple[int, int]]:
    """Yields (axis, length) of the axes to be checked. Routes check group numbers themselves."""
    routes = {route.name: route for route in mask.routed if isinstance(route, Scored)}
    route = routes.get(read.input)
    checked: set[Expression] = set()
    if route is not None:
        level = route.result if isinstance(route, GroupScores) else (route.queries, route.keys)
        checked = {grouping.index(side) for side, grouping in zip(PAIR, level, strict=True)}
    for axis, size in TableReads(mask).sizes(read):
        if read.indices[axis] not in checked:
            yield axis, size


def _is_guarded(read: GuardedRead, axis: int) -> bool:
    """Whether an index is the number of an entry of which a guard says that it is stored."""
    index = simplify(read.node.indices[axis])
    stored = apply(Op.LESS_EQUAL, Constant(0), index)
    return (
        isinstance(index, Read) and index.sparse and any(stored in _conjuncts(simplify(each)) for each in read.guards)
    )


def _conjuncts(condition: Expression) -> tuple[Expression, ...]:
    match condition:
        case Apply(op=Op.AND, arguments=operands):
            return tuple(each for operand in operands for each in _conjuncts(operand))
        case _:
            return (condition,)


# Questions that inputs decide


def open_questions(mask: MaskIR) -> Iterator[IndexQuestion]:
    """Yields the questions that have no answer without inputs."""
    return (each for each in _questions(mask) if answer(mask, each, {}) is IndexVerdict.OPEN)


def inputs_of(mask: MaskIR, question: IndexQuestion) -> frozenset[str]:
    """Names of the inputs that decide a question."""
    read = reads(question.index, *question.guards)
    indirect = (trace(sequence, read.of(side)).inputs for side, (sequence, _) in question.positions.items())
    return frozenset(read.inputs).union(*indirect) & {each.name for each in mask.inputs}


def known_inside(mask: MaskIR, question: IndexQuestion, inputs: Mapping[str, Array]) -> bool:
    """Whether the ranges of the given inputs prove an index inside for all pairs, attending or not."""
    cells = AxisExpressions(mask, question.positions, {}, None, question.groups)
    ranges: dict[Expression, Range] = {}

    def bounded_read(node: Expression) -> Expression | None:
        if not isinstance(node, Read) or node.input not in inputs or not inputs[node.input].size:
            return None
        values = inputs[node.input]
        leaf = Coordinate(Side.TOKEN, f"{node.input}[]")
        ranges[leaf] = ENTRY_NUMBERS if node.sparse else Range(int(values.min()), int(values.max()))
        return leaf

    index = rebuild(cells.of(question.index), bounded_read)
    return is_inside(expression_range(index, {**cells.ranges, **ranges}.__getitem__), question.size)


# Answers


def answer(
    mask: MaskIR, question: IndexQuestion, inputs: Mapping[str, Array], batch: int | None = None, budget: int = BUDGET
) -> IndexVerdict | Outside:
    """The answer to a question, given the known inputs and the number of batch entries of a call.

    OPEN if it depends on unknown inputs or takes more than `budget` boxes.
    """
    cells = AxisExpressions(mask, question.positions, inputs, batch, question.groups)
    index = cells.of(question.index)
    if is_inside(expression_range(index, cells.ranges.__getitem__), question.size):
        return IndexVerdict.INSIDE
    guards = tuple(map(cells.of, question.guards))
    try:
        search = PairSearch(cells, guards, budget)
        outside = leaves(index, question.size)
        if search.find(outside, widest=True) is None:
            return IndexVerdict.INSIDE
        values = search.find(outside, widest=False) if question.exact else None
    except TooFine:
        return IndexVerdict.OPEN
    if values is None:
        return IndexVerdict.OPEN
    value = value_at(index, values, cells.tables)
    query, key = (
        cells.position_of(side, values) if side in question.positions else None
        for side in (Side.TOKEN if Side.TOKEN in question.positions else Side.QUERY, Side.KEY)
    )
    return Outside(value, _IndexSearch(search, index).reach(value), query, key)


@dataclass(frozen=True)
class _IndexSearch:
    """The values that an index takes in the pairs of a search."""

    pairs: PairSearch
    index: Expression

    def reach(self, value: int) -> Range:
        """The range of the index over pairs for which the guards hold, given one of its values."""
        low, high = expression_range(self.index, self.pairs.cells.ranges.__getitem__)
        least = -_farthest(-value, -low, lambda bound: self.taken(Op.LESS_EQUAL, self.index, Constant(-bound)))
        most = _farthest(value, high, lambda bound: self.taken(Op.LESS_EQUAL, Constant(bound), self.index))
        return Range(least, most)

    def taken(self, op: Op, *operands: Expression) -> bool:
        """Whether the comparison certainly holds for some pair; false if the search exceeds the budget."""
        try:
            return self.pairs.find(apply(op, *operands), widest=False) is not None
        except TooFine:
            return False


def _farthest(known: int, bound: int, holds: Callable[[int], bool]) -> int:
    """The greatest number up to `bound` for which `holds`, by bisection from `known`, for which it does."""
    while known < bound:
        middle = (known + bound + 1) // 2
        if holds(middle):
            known = middle
        else:
            bound = middle - 1
    return known

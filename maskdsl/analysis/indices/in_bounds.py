"""Whether reads of tables stay inside them for all pairs that attend. Exact, without looking at pairs one by one.

For each read the condition is asked that its index leaves the table where the pair attends and the read matters, over
the axes of each pair of spaces. First with what is asked of the axes that the index reads alone, which mostly is
enough, then with everything.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from maskdsl.analysis.counts.axis_factors import conjuncts
from maskdsl.analysis.indices.axis_expressions import AxisExpressions, variables
from maskdsl.analysis.indices.shifts import shifted, unshifted
from maskdsl.analysis.indices.witness import TooFine, Values, value_at, witness
from maskdsl.analysis.tiles.intervals import Array
from maskdsl.base.diagnostics import AttnError, Diagnostic
from maskdsl.base.errors.language.tables import ReadOutside
from maskdsl.ir.expressions import FALSE, TRUE, Constant, Coordinate, Expression, Read, Side, apply, rebuild
from maskdsl.ir.facts.ranges import Range, expression_range, mask_leaf
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.facts.route_candidates import bounded
from maskdsl.ir.facts.table_reads import TableReads, leaves
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import Computed, MaskIR, Sequence, Space
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.routes import Rank, Route, selector_argument
from maskdsl.ir.simplify import simplify

_BUDGET = 1 << 16
"""Boxes that one search may take when a pattern is bound: some tens of milliseconds."""

NO_LIMIT = 1 << 62

Positions = Mapping[Side, tuple[Sequence, Space]]


@dataclass(frozen=True)
class IndexQuestion:
    """One index of a read: does it leave its table where all guards hold, for the tokens of these spaces?"""

    read: Read
    axis: int
    size: int
    guards: tuple[Expression, ...]
    positions: Positions
    groups: Mapping[Side, int] = field(default_factory=dict)
    exact: bool = True
    """Whether all of these tokens are asked; not so for routes, which ask the first tokens of groups."""

    @property
    def index(self) -> Expression:
        return self.read.indices[self.axis]


class IndexVerdict(Enum):
    INSIDE = auto()  # for all that attend, whatever the inputs that are not known
    OPEN = auto()  # it depends on inputs that are not known, or the search would take too long


@dataclass(frozen=True)
class Outside:
    """Where an index leaves its table: the declared positions of a pair that attends, or of one token."""

    value: int
    reach: Range
    """What the index takes over all pairs that attend."""
    query: int | None = None
    key: int | None = None


def in_bounds(mask: MaskIR) -> MaskIR:
    """The mask with those reads of floats marked that may leave their tables, as far as is known without inputs.

    Raises `AttnError` where one does for a pair that attends, whatever the inputs.
    """
    wrong: dict[tuple[Read, int], Diagnostic] = {}
    still_open: dict[Read, None] = {}
    for question in _questions(mask):
        match answer(mask, question, {}):
            case Outside() as found:
                wrong.setdefault((question.read, question.axis), _diagnostic(question, found))
            case IndexVerdict.OPEN:
                still_open[question.read] = None
    if wrong:
        raise AttnError(*wrong.values())
    return _opened(mask, frozenset(read for read in still_open if read.type is Type.FLOAT))


def where(found: Outside) -> str:
    return f"for query {found.query} and key {found.key}" if found.key is not None else f"for token {found.query}"


def _diagnostic(question: IndexQuestion, found: Outside) -> Diagnostic:
    return ReadOutside(
        span=question.index.span or question.read.span,
        name=question.read.input,
        low=found.reach.low,
        high=found.reach.high,
        last=question.size - 1,
        value=found.value,
        where=where(found),
    )


def _opened(mask: MaskIR, elements: frozenset[Read]) -> MaskIR:
    """The mask with these reads marked."""
    if not elements:
        return mask

    def marked(node: Expression) -> Expression | None:
        return replace(node, open=True) if isinstance(node, Read) and simplify(node) in elements else None

    return mask.mapped(lambda expression: rebuild(expression, marked))


# What is asked


def _questions(mask: MaskIR) -> Iterator[IndexQuestion]:
    """Of every index that static ranges do not show to be inside."""
    tables = TableReads(mask)
    ranges = mask_leaf(mask)
    asked = [(mask.relation, ()), *((each, (mask.relation,)) for each in mask.pair_values)]
    pairs: list[Positions] = [
        {Side.QUERY: (mask.queries, query), Side.KEY: (mask.keys, key)}
        for query in mask.queries.spaces
        for key in mask.keys.spaces
    ]
    for expression, guards in asked:
        for read in tables.of(expression, guards):
            for axis, size in _open_axes(mask, read.node):
                if not _inside(expression_range(read.node.indices[axis], ranges), size):
                    yield from (IndexQuestion(read.node, axis, size, read.guards, positions) for positions in pairs)
    for expression, positions in _token_values(mask):
        for read in tables.of(expression):
            for axis, size in _open_axes(mask, read.node):
                yield IndexQuestion(read.node, axis, size, read.guards, positions)
    for route in mask.routed:
        if isinstance(route, Route):
            yield from _route_questions(mask, tables, route, pairs)


def _token_values(mask: MaskIR) -> Iterator[tuple[Expression, Positions]]:
    """What is computed for every token of a space: its coordinates, what it is sorted by, and whether it is pooled."""
    for sequence in dict.fromkeys((mask.queries, mask.keys)):
        spaces = {space.name: {Side.TOKEN: (sequence, space)} for space in sequence.spaces}
        for definition in sequence.coordinates:
            for name, source in definition.sources:
                if isinstance(source, Computed):
                    yield source.value, spaces[name]
        for space, keys in zip(sequence.spaces, sequence.order, strict=False):
            yield from ((key, spaces[space.name]) for key in keys)
    for found in mask.routed:
        if isinstance(found, Rank):
            sequence = mask.sequences[found.side]
            own = sequence.space(found.space)
            assert own is not None
            yield from ((key, {Side.TOKEN: (sequence, own)}) for key in found.keys)
        if isinstance(found, Route):
            for side, sequence in mask.sequences.items():
                for expression in found.over_token(side):
                    yield from ((expression, {Side.TOKEN: (sequence, space)}) for space in sequence.spaces)


def _route_questions(mask: MaskIR, tables: TableReads, route: Route, pairs: list[Positions]) -> Iterator[IndexQuestion]:
    """Of a score, where there are candidates, and of what a selector is told, which no token decides."""
    groups = {Side.QUERY: route.queries.count, Side.KEY: route.keys.count}
    own = {route.queries.index(Side.QUERY), route.keys.index(Side.KEY)}
    for read in (*tables.of(route.score, (route.candidates,)), *tables.of(route.candidates)):
        exact = own.issuperset(reads(*read.guards, read.node).coordinates)
        for axis, size in _open_axes(mask, read.node):
            yield from (IndexQuestion(read.node, axis, size, read.guards, each, groups, exact) for each in pairs)
    for read in tables.of(selector_argument(route.selector)):
        yield from (
            IndexQuestion(read.node, axis, size, read.guards, pairs[0]) for axis, size in _open_axes(mask, read.node)
        )


def _open_axes(mask: MaskIR, read: Read) -> Iterator[tuple[int, int]]:
    """The axes whose index is to be asked for, and their lengths. Routes check the numbers of groups themselves."""
    routes = {route.name: route for route in mask.routed if isinstance(route, Route)}
    route = routes.get(read.input)
    checked = set() if route is None else {route.queries.index(Side.QUERY), route.keys.index(Side.KEY)}
    for axis, size in TableReads(mask).sizes(read):
        if read.indices[axis] not in checked:
            yield axis, size


def _inside(reach: Range, size: int) -> bool:
    return reach.low >= 0 and reach.high < size


# What inputs decide


def open_questions(mask: MaskIR) -> Iterator[IndexQuestion]:
    """Those that have no answer without inputs."""
    return (each for each in _questions(mask) if answer(mask, each, {}) is IndexVerdict.OPEN)


def inputs_of(mask: MaskIR, question: IndexQuestion) -> frozenset[str]:
    """The inputs that decide where an index leaves its table."""
    read = reads(question.index, *question.guards)
    behind = (trace(sequence, read.of(side)).inputs for side, (sequence, _) in question.positions.items())
    return frozenset(read.inputs).union(*behind) & {each.name for each in mask.inputs}


def known_inside(mask: MaskIR, question: IndexQuestion, inputs: Mapping[str, Array]) -> bool:
    """Whether an index is inside by the least and the greatest value of what it reads, whoever attends."""
    cells = AxisExpressions(mask, question.positions, {}, None, question.groups)
    ranges: dict[Expression, Range] = {}

    def taken(node: Expression) -> Expression | None:
        if not isinstance(node, Read) or node.input not in inputs or not inputs[node.input].size:
            return None
        values = inputs[node.input]
        leaf = Coordinate(Side.TOKEN, f"{node.input}[]")
        ranges[leaf] = Range(int(values.min()), int(values.max()))
        return leaf

    index = rebuild(cells.of(question.index), taken)
    return _inside(expression_range(index, {**cells.ranges, **ranges}.__getitem__), question.size)


# What is answered


def answer(
    mask: MaskIR, question: IndexQuestion, inputs: Mapping[str, Array], batch: int | None = None, budget: int = _BUDGET
) -> IndexVerdict | Outside:
    """`inputs` are those that are known; with them, `batch` is the number of batch entries."""
    cells = AxisExpressions(mask, question.positions, inputs, batch, question.groups)
    index = cells.of(question.index)
    if _inside(expression_range(index, cells.ranges.__getitem__), question.size):
        return IndexVerdict.INSIDE
    guards = tuple(map(cells.of, question.guards))
    try:
        search = _IndexSearch(cells, index, guards, budget)
        wrong = leaves(index, question.size)
        if search.find(wrong, widest=True) is None:
            return IndexVerdict.INSIDE
        values = search.find(wrong, widest=False) if question.exact else None
    except TooFine:
        return IndexVerdict.OPEN
    if values is None:
        return IndexVerdict.OPEN
    value = value_at(index, values, cells.tables)
    query, key = (
        cells.position_of(side, values) if side in question.positions else None
        for side in (Side.TOKEN if Side.TOKEN in question.positions else Side.QUERY, Side.KEY)
    )
    return Outside(value, search.reach(value), query, key)


@dataclass(frozen=True)
class _IndexSearch:
    """For the pairs for which the guards hold."""

    cells: AxisExpressions
    index: Expression
    guards: tuple[Expression, ...]
    budget: int

    def find(self, wanted: Expression, widest: bool) -> Values | None:
        """A pair for which something is so, where it surely is, or, `widest`, where it may be: see `bounded`."""
        parts = [
            part
            for each in (wanted, *self.guards)
            for part in conjuncts(simplify(bounded(each, widest, self.cells.unknown)))
            if part != TRUE
        ]
        if FALSE in parts:
            return None
        wanted, rest = apply(Op.AND, TRUE, *parts[:1]), parts[1:]
        own = variables(wanted)
        near = [part for part in rest if variables(part) <= own]
        if len(near) < len(rest) and not self.possible(wanted, *near):
            return None
        found: Values = {}
        for component in _components((wanted, *rest)):
            values = self.holds(*component)
            if values is None:
                return None
            found |= values
        return found

    def possible(self, *parts: Expression) -> bool:
        try:
            return self.holds(*parts) is not None
        except TooFine:
            return True

    def holds(self, *parts: Expression) -> Values | None:
        condition, ranges, shifts = shifted(simplify(apply(Op.AND, TRUE, *parts)), self.cells.ranges)
        values = witness(simplify(condition), ranges, self.cells.tables, self.budget)
        return None if values is None else unshifted(values, ranges, shifts)

    def reach(self, value: int) -> Range:
        """What the index takes, from one of its values."""
        low, high = expression_range(self.index, self.cells.ranges.__getitem__)
        least = -_farthest(-value, -low, lambda bound: self.taken(Op.LESS_EQUAL, self.index, Constant(-bound)))
        most = _farthest(value, high, lambda bound: self.taken(Op.LESS_EQUAL, Constant(bound), self.index))
        return Range(least, most)

    def taken(self, op: Op, *operands: Expression) -> bool:
        try:
            return self.find(apply(op, *operands), widest=False) is not None
        except TooFine:
            return False


def _farthest(known: int, bound: int, holds: Callable[[int], bool]) -> int:
    """The greatest number up to the bound for which something holds that holds below it too."""
    while known < bound:
        middle = (known + bound + 1) // 2
        if holds(middle):
            known = middle
        else:
            bound = middle - 1
    return known


def _components(parts: Iterable[Expression]) -> list[list[Expression]]:
    """Parts that have something varying in common, directly or through others, together."""
    found: list[tuple[frozenset[Expression], list[Expression]]] = []
    for part in parts:
        own, members = variables(part), [part]
        apart = []
        for names, others in found:
            if names & own:
                own, members = names | own, others + members
            else:
                apart.append((names, others))
        found = [*apart, (own, members)]
    return [members for _, members in found]

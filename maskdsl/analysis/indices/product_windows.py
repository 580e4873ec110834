"""Narrows the windows of products of vectors to the entries of tables that attending pairs read."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from maskdsl.analysis.indices.axis_expressions import AxisExpressions
from maskdsl.analysis.indices.pair_search import BUDGET, PairSearch
from maskdsl.analysis.indices.witness import TooFine
from maskdsl.ir.declared.inputs import Dimension
from maskdsl.ir.expressions import Constant, Expression, Read, Side, apply, rebuild
from maskdsl.ir.facts.ranges import Range
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op
from maskdsl.ir.simplify import simplify
from maskdsl.ir.values.token_vectors import TableRow, ValueTerm, Vector, VectorProduct, Window, mapped_rows

_FEWEST = 64
"""Windows of fewer entries are left as they are: a search costs more than it saves."""


def narrowed(mask: MaskIR) -> MaskIR:
    """The mask with windows of the entries that attending pairs read. Those that may read outside stay as they are."""
    products = tuple(_narrowed(each, mask) for each in mask.products)
    values = tuple(replace(each, vector=_narrowed_vector(each.vector, mask)) for each in mask.values)
    before: list[VectorProduct | ValueTerm] = [*mask.products, *mask.values]
    after: list[VectorProduct | ValueTerm] = [*products, *values]
    tables = {each.name: each for each in after if each not in before}
    if not tables:
        return mask

    def read(node: Expression) -> Expression | None:
        if isinstance(node, Read) and node.input in tables:
            return replace(node, indices=tuple(map(simplify, tables[node.input].indices)))
        return None

    def rewritten(expression: Expression) -> Expression:
        return rebuild(expression, read)

    weights = (replace(each, weight=rewritten(each.weight)) for each in values)
    inputs = (
        replace(each, dimensions=_dimensions(each.dimensions, tables[each.name])) if each.name in tables else each
        for each in mask.inputs
    )
    return replace(mask.mapped(rewritten), inputs=tuple(inputs), products=products, values=tuple(weights))


def _dimensions(before: tuple[Dimension, ...], product: VectorProduct | ValueTerm) -> tuple[Dimension, ...]:
    windows = product.windows
    others = before[: len(before) - len(windows)]
    sizes = zip(before[len(others) :], windows, strict=True)
    return (*others, *(replace(each, size=window.count, text=str(window.count)) for each, window in sizes))


def _narrowed(product: VectorProduct, mask: MaskIR) -> VectorProduct:
    left, right = (_narrowed_vector(each, mask) for each in (product.left, product.right))
    return replace(product, left=left, right=right)


def _narrowed_vector(vector: Vector, mask: MaskIR) -> Vector:
    def row(vector: TableRow) -> TableRow:
        indices = (_window(each, mask) if isinstance(each, Window) else each for each in vector.indices)
        return replace(vector, indices=tuple(indices))

    return mapped_rows(vector, row)


def _window(window: Window, mask: MaskIR) -> Window:
    if window.count < _FEWEST:
        return window
    reach = _reach(window.index, window.count, mask)
    return window if reach is None else Window(window.index, reach.low, reach.high - reach.low + 1)


def _reach(index: Expression, count: int, mask: MaskIR) -> Range | None:
    """The range of an index over attending pairs; None where it may leave 0 .. count, or no pair attends."""
    searches = list(_searches(index, mask))

    def most(bound: int) -> bool:
        """Whether the index may be at most this."""
        return any(_possible(search, apply(Op.LESS_EQUAL, value, Constant(bound))) for search, value in searches)

    def least(bound: int) -> bool:
        """Whether the index may be at least this."""
        return any(_possible(search, apply(Op.LESS_EQUAL, Constant(bound), value)) for search, value in searches)

    if most(-1) or least(count) or not least(0):
        return None
    low = _first(0, count - 1, most)
    return Range(low, count - 1 - _first(0, count - 1, lambda back: least(count - 1 - back)))


def _searches(index: Expression, mask: MaskIR) -> Iterator[tuple[PairSearch, Expression]]:
    """Yields a search over the attending pairs of every pair of spaces, and the index there."""
    for query in mask.queries.spaces:
        for key in mask.keys.spaces:
            positions = {Side.QUERY: (mask.queries, query), Side.KEY: (mask.keys, key)}
            cells = AxisExpressions(mask, positions, {}, None, {})
            yield PairSearch(cells, (cells.of(mask.relation),), BUDGET), cells.of(index)


def _possible(search: PairSearch, comparison: Expression) -> bool:
    """Whether the comparison may hold for an attending pair; true if the search exceeds its budget."""
    try:
        return search.find(comparison, widest=True) is not None
    except TooFine:
        return True


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The least number for which `holds`, which holds for all larger ones, by bisection; `high` if for none below."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low

"""Warns about comparisons of bare positions if the two tokens are numbered in different sequences."""

from maskdsl.base.errors.language.warnings import UnlikePositions
from maskdsl.base.source import Span
from maskdsl.bind.context.bound_values import Term, Value
from maskdsl.bind.context.frame import PAIRS, Frame, Pair
from maskdsl.ir.declared.sequences import Sequence, Space
from maskdsl.ir.expressions import Coordinate, Side


def warn_of_positions(frame: Frame, span: Span, *operands: Value) -> None:
    """Warns (W001) if `q` and `k` are operands of one operation and may be numbered differently."""
    sides = {
        term.expression.side
        for term in operands
        if isinstance(term, Term) and isinstance(term.expression, Coordinate) and term.expression.name == "i"
    }
    if frame.statement not in PAIRS or sides != {Side.QUERY, Side.KEY}:
        return
    queries, keys = frame.sequence(Side.QUERY), frame.sequence(Side.KEY)
    if queries.spaces == keys.spaces:
        return
    unlike = sorted(pair for pair in frame.pairs if not _alike(pair, queries, keys))
    if unlike:
        (query, key) = unlike[0]
        hint = _hint(_space(queries, query), _space(keys, key))
        frame.warn(UnlikePositions(span=span, queries=_names(queries), keys=_names(keys), hint=hint))


def _alike(pair: Pair, queries: Sequence, keys: Sequence) -> bool:
    """Whether the tokens of a pair of spaces have the same positions as queries and as keys."""
    query, key = pair
    return query == key and _offset(queries, query) == _offset(keys, key)


def _offset(sequence: Sequence, name: str) -> int:
    return sequence.offsets[sequence.spaces.index(_space(sequence, name))]


def _space(sequence: Sequence, name: str) -> Space:
    return next(space for space in sequence.spaces if space.name == name)


def _names(sequence: Sequence) -> str:
    return " ++ ".join(f"`{space.name}`" for space in sequence.spaces)


def _hint(query: Space, key: Space) -> str:
    """What to write for a query and a key of these spaces."""
    if query == key:
        axis = query.axes[-1].name
        return f"compare positions inside `{query.name}`, such as `q.{axis}` and `k.{axis}`"
    if query.root == key.root and len(query.root.axes) == 1:
        last = f"k.{key.axes[0].name}" if key.pooling is None else "k.last"
        first = f"q.{query.axes[0].name}" if query.pooling is None else "q.first"
        return f"in `{key.root.name}`, `{last} <= {first}` holds for keys that end no later than the query begins"
    return (
        "give both a common numbering, by an offset such as `k <= q + 8` or by a `coord` that both have; "
        "write `# allow: W001` if they have one"
    )

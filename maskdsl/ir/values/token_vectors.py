"""Vectors of queries, keys, tables and pools, and the products of them that a call computes before attention.

A score reads a product like any table: it is an input of the mask that the caller does not give. Only products of a
vector of the query and a vector of the key are none: attention computes these itself, tile by tile.
`ir/meaning/product_meaning.py` evaluates them on NumPy arrays.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from enum import StrEnum, auto
from typing import assert_never

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import Batch, Constant, Coordinate, Expression, Head, Read, Side, apply, of_side
from maskdsl.ir.ops import Op, Type

Rewrite = Callable[[Expression], Expression]


class PoolKind(StrEnum):
    """How the vectors of a group become one, and scores of several groups."""

    MEAN = auto()
    MAX = auto()
    MIN = auto()
    SUM = auto()
    ROOT = auto()  # the sum over the square root of the number summed


@dataclass(frozen=True)
class Pool:
    """One vector for each group of tokens of one side, in each head; without a kind, the vector of each token.

    The vector of a group without pooled tokens is zero.
    """

    kind: PoolKind | None
    among: Expression | None = None
    """Boolean over one token: whether the token is pooled. None: all are."""
    heads: Expression | None = None
    """Integer over the head: heads of equal value are pooled together. None: each head alone."""
    by_key_head: bool = False
    """Whether the query heads that share a key head are pooled together; the call decides how many they are."""
    of: "Vector | None" = None
    """The vector of one token that is pooled, over the side's own coordinates. None: the query or the key itself."""
    span: int = 1
    """How many consecutive groups' tokens are pooled together: its own and the next ones."""

    def mapped(self, rewrite: Rewrite) -> "Pool":
        """The pool with its expressions over tokens rewritten."""
        among = None if self.among is None else rewrite(self.among)
        return replace(self, among=among, of=mapped_by(self.of, rewrite))


@dataclass(frozen=True)
class OfToken:
    """The vector of the query or of the key."""

    side: Side
    scaled: bool = False
    """Whether it is multiplied by 1 / sqrt(head dim)."""


@dataclass(frozen=True)
class OfValue:
    """The value of the key."""


@dataclass(frozen=True)
class Window:
    """An index that a product keeps as an axis: `count` entries from `first` on, all that attending pairs read."""

    index: Expression
    first: int
    count: int

    @property
    def shifted(self) -> Expression:
        """The index along the axis."""
        return apply(Op.SUBTRACT, self.index, Constant(self.first)) if self.first else self.index


@dataclass(frozen=True)
class TableRow:
    """A vector of an input: all of its last dimension, at one index for each of the others."""

    input: str
    indices: tuple[Expression | Window, ...]

    @property
    def windows(self) -> tuple[Window, ...]:
        """The axes that a product keeps."""
        return tuple(each for each in self.indices if isinstance(each, Window))

    @property
    def read(self) -> Read:
        """The read of its first element, which stands for the row where indices are checked."""
        indices = (each.index if isinstance(each, Window) else each for each in self.indices)
        return Read(self.input, (*indices, Constant(0)), Type.FLOAT)


@dataclass(frozen=True)
class OfGroup:
    """The pooled vector of the group of the query or of the key: of the tokens with an equal coordinate `by`."""

    side: Side
    pool: Pool
    by: str
    count: int
    """The number of groups."""


@dataclass(frozen=True)
class Multiple:
    """A vector times a float."""

    factor: Expression
    vector: "Vector"


@dataclass(frozen=True)
class Sum:
    """The sum of vectors, which read the same tokens."""

    terms: tuple["Vector", ...]


@dataclass(frozen=True)
class Elementwise:
    """An operator on each element of vectors and of floats, which read the same tokens."""

    op: Op
    operands: tuple["Vector | Expression", ...]


Vector = OfToken | OfValue | TableRow | OfGroup | Multiple | Sum | Elementwise


def _operands(vector: Vector) -> tuple[Vector, ...]:
    """The vectors that a vector is computed from; none of a leaf."""
    match vector:
        case OfToken() | OfValue() | TableRow() | OfGroup():
            return ()
        case Multiple(vector=inner):
            return (inner,)
        case Sum(terms=terms):
            return terms
        case Elementwise(operands=operands):
            return tuple(each for each in operands if isinstance(each, Vector))
        case _:
            assert_never(vector)


def vector_leaves(vector: Vector) -> Iterator[OfToken | OfValue | TableRow | OfGroup]:
    """Yields the vectors of tokens, tables and pools that a vector is computed from."""
    if isinstance(vector, OfToken | OfValue | TableRow | OfGroup):
        yield vector
    for each in _operands(vector):
        yield from vector_leaves(each)


def vector_expressions(vector: Vector) -> Iterator[Expression]:
    """Yields the expressions over the pair that a vector is computed from, without indices that are kept as axes."""
    match vector:
        case OfToken() | OfValue():
            pass
        case TableRow(indices=indices):
            yield from (each for each in indices if not isinstance(each, Window))
        case OfGroup(side=side, by=by, pool=pool):
            yield Coordinate(side, by)
            yield from () if pool.among is None else (pool.among,)
            yield from () if pool.heads is None else (pool.heads,)
        case Multiple(factor=factor):
            yield factor
        case Sum():
            pass
        case Elementwise(operands=operands):
            yield from (each for each in operands if not isinstance(each, Vector))
        case _:
            assert_never(vector)
    for each in _operands(vector):
        yield from vector_expressions(each)


def mapped_rows(vector: Vector, change: Callable[[TableRow], TableRow]) -> Vector:
    """The vector with its rows of tables changed."""
    match vector:
        case OfToken() | OfValue() | OfGroup():
            return vector
        case TableRow():
            return change(vector)
        case Multiple(factor, inner):
            return Multiple(factor, mapped_rows(inner, change))
        case Sum(terms):
            return Sum(tuple(mapped_rows(each, change) for each in terms))
        case Elementwise(op, operands):
            return Elementwise(
                op, tuple(mapped_rows(each, change) if isinstance(each, Vector) else each for each in operands)
            )
        case _:
            assert_never(vector)


def mapped(vector: Vector, rewrite: Rewrite) -> Vector:
    """The vector with its expressions rewritten."""
    match vector:
        case OfToken() | OfValue():
            return vector
        case TableRow(indices=indices):
            rewritten = (
                replace(each, index=rewrite(each.index)) if isinstance(each, Window) else rewrite(each)
                for each in indices
            )
            return replace(vector, indices=tuple(rewritten))
        case OfGroup(pool=pool):
            return replace(vector, pool=pool.mapped(rewrite))
        case Multiple(factor, inner):
            return Multiple(rewrite(factor), mapped(inner, rewrite))
        case Sum(terms):
            return Sum(tuple(mapped(each, rewrite) for each in terms))
        case Elementwise(op, operands):
            return Elementwise(
                op,
                tuple(mapped(each, rewrite) if isinstance(each, Vector) else rewrite(each) for each in operands),
            )
        case _:
            assert_never(vector)


@dataclass(frozen=True)
class VectorProduct:
    """A dot product that a call computes once for each token, or for each entry of a table, into the input `name`.

    The input is float [batch, heads, tokens of the side `per`, windows of `left`, windows of `right`].
    """

    name: str
    per: Side | None
    """None: no token decides it, but for indices that are windows."""
    left: Vector
    right: Vector

    @property
    def rows(self) -> tuple[TableRow, ...]:
        """The rows of tables that are multiplied."""
        return _rows_of(self.left, self.right)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The axes behind the tokens."""
        return _windows_of(self.rows)

    @property
    def indices(self) -> tuple[Expression, ...]:
        """What a pair reads the input by."""
        tokens = () if self.per is None else (Coordinate(self.per, "i"),)
        return (Batch(), Head(), *tokens, *(each.shifted for each in self.windows))

    def mapped(self, rewrite: Rewrite) -> "VectorProduct":
        """The product with its expressions rewritten."""
        return replace(self, left=mapped(self.left, rewrite), right=mapped(self.right, rewrite))


@dataclass(frozen=True)
class PairProduct:
    """A dot product of a vector of the query and a vector of the key."""

    query: Vector
    key: Vector

    def mapped(self, rewrite: Rewrite) -> "PairProduct":
        """The product with its expressions rewritten."""
        return PairProduct(mapped(self.query, rewrite), mapped(self.key, rewrite))


PLAIN = PairProduct(OfToken(Side.QUERY), OfToken(Side.KEY))
"""The product of query and key."""


def _rows_of(*vectors: Vector) -> tuple[TableRow, ...]:
    leaves = (leaf for each in vectors for leaf in vector_leaves(each))
    return tuple(each for each in leaves if isinstance(each, TableRow))


def _windows_of(rows: tuple[TableRow, ...]) -> tuple[Window, ...]:
    """The axes that rows of tables keep."""
    return tuple(window for row in rows for window in row.windows)


@dataclass(frozen=True)
class ValueTerm:
    """A vector that pairs add to the output of a query, each times its probability.

    The probabilities of a query that choose one entry of the windows are summed first: the `mass` of the entry.
    """

    name: str
    """Of a table of masses, float [batch, heads, queries, windows of `vector`], which no call gives."""
    weight: Expression
    """What a pair multiplies its probability by, times its element of that table."""
    vector: Vector
    """Rows of a table, whose indices are windows; or a vector of the query."""

    @property
    def rows(self) -> tuple[TableRow, ...]:
        """The rows of tables that are added."""
        return _rows_of(self.vector)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The axes behind the queries."""
        return _windows_of(self.rows)

    @property
    def indices(self) -> tuple[Expression, ...]:
        """The entry of a pair."""
        return (Batch(), Head(), Coordinate(Side.QUERY, "i"), *(each.shifted for each in self.windows))

    def mapped(self, rewrite: Rewrite) -> "ValueTerm":
        """The term with its expressions rewritten."""
        return replace(self, weight=rewrite(self.weight), vector=mapped(self.vector, rewrite))


def mapped_by(vector: Vector | None, rewrite: Rewrite) -> Vector | None:
    """The vector, if there is one, with its expressions rewritten."""
    return None if vector is None else mapped(vector, rewrite)


def plain_pool(vector: Vector, side: Side) -> Pool | None:
    """How a vector pools queries or keys, by conditions over a token; None if it is any other vector."""
    match vector:
        case OfToken(side=of, scaled=False) if of is side:
            return Pool(None)
        case OfGroup(side=of, pool=pool) if of is side and pool.of is None and pool.span == 1:
            return replace(pool, among=None if pool.among is None else of_side(pool.among, Side.TOKEN))
        case _:
            return None


def group_expressions(vector: Vector, side: Side) -> Iterator[Expression]:
    """Yields the expressions over one token of a side that pools are made by."""
    for leaf in vector_leaves(vector):
        if isinstance(leaf, OfGroup) and leaf.side is side:
            inner = () if leaf.pool.of is None else tuple(vector_expressions(leaf.pool.of))
            among = () if leaf.pool.among is None else (leaf.pool.among,)
            for each in (Coordinate(side, leaf.by), *among, *inner):
                yield of_side(each, Side.TOKEN)


def reads_tokens(vector: Vector) -> bool:
    """Whether a vector is made of queries or keys."""
    leaves = vector_leaves(vector)
    return any(
        isinstance(each, OfToken)
        or (isinstance(each, OfGroup) and (each.pool.of is None or reads_tokens(each.pool.of)))
        for each in leaves
    )


def table_rows(vector: Vector) -> Iterator[TableRow]:
    """Yields the rows of inputs that a vector is made of, those of pooled vectors too."""
    for each in vector_leaves(vector):
        if isinstance(each, TableRow):
            yield each
        if isinstance(each, OfGroup) and each.pool.of is not None:
            yield from table_rows(each.pool.of)


def all_expressions(vector: Vector) -> Iterator[Expression]:
    """Yields the expressions that a vector is computed from, those of the vectors that it pools too."""
    yield from vector_expressions(vector)
    for each in vector_leaves(vector):
        if isinstance(each, OfGroup) and each.pool.of is not None:
            yield from all_expressions(each.pool.of)

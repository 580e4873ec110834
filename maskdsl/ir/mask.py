"""The root of the IR: a bound pattern with its spaces, sequences, inputs and relation. All lengths are numbers.

Frozen data, made by `maskdsl.bind`, checked by `ir/invariants.py`, evaluated by `ir/meaning/evaluate.py`.
"""

from collections.abc import Callable, Container
from dataclasses import field, replace
from enum import StrEnum, auto
from functools import cached_property
from itertools import accumulate, chain

from maskdsl.base.diagnostics import Caution
from maskdsl.base.limits import MOST_HEAD_DIM
from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.expressions import Expression, Side
from maskdsl.ir.heads import Heads
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Rewrite, Route, Routed
from maskdsl.ir.values.token_vectors import (
    OfGroup,
    PairProduct,
    TableRow,
    ValueTerm,
    Vector,
    VectorProduct,
    mapped_by,
    vector_leaves,
)


@dataclass(frozen=True)
class Axis:
    """One axis of a space's grid; `length` in tokens."""

    name: str
    length: int


class PoolingKind(StrEnum):
    """How the tokens of a pool become one token, elementwise."""

    MEAN = auto()
    MAX = auto()
    MIN = auto()


@dataclass(frozen=True)
class PoolBoxes:
    """Pools that tile the grid of their source from its first token on; the last one of an axis may be smaller."""

    sides: tuple[int, ...]
    """Tokens of a box along each axis of the source, at most the axis' length."""


@dataclass(frozen=True)
class PoolGroups:
    """Pools of tokens with equal values of a coordinate. A token whose value is no number of a pool is in none."""

    by: str
    tokens: "Sequence"
    """The source alone, with this coordinate and those that it is computed from; the same for all heads."""


@dataclass(frozen=True)
class Pooling:
    """Each token of the space is pooled from tokens of `source`: those of one box, or of one group.

    A mean weighs each of them by the number of given tokens that it is pooled from.
    """

    kind: PoolingKind
    source: "Space"
    pools: PoolBoxes | PoolGroups


@dataclass(frozen=True)
class Space:
    """Tokens on a row-major grid, the last axis fastest. The only axis of `space text[512]` is named `text`."""

    name: str
    axes: tuple[Axis, ...]
    pooling: Pooling | None = None
    """How its keys and values are pooled from another space; None if the call gives them."""
    span: Span | None = field(default=None, compare=False, repr=False)

    @cached_property
    def size(self) -> int:
        """Tokens of the space."""
        size = 1
        for axis in self.axes:
            size *= axis.length
        return size

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens along each axis."""
        return tuple(axis.length for axis in self.axes)

    @cached_property
    def chain(self) -> "tuple[Space, ...]":
        """The given space, then each space pooled from the one before, up to this one."""
        return (*(self.pooling.source.chain if self.pooling is not None else ()), self)

    @property
    def root(self) -> "Space":
        """The given space at the start of `chain`: this space itself if it is not pooled."""
        return self.chain[0]

    @cached_property
    def groupings(self) -> tuple[tuple["Space", PoolGroups], ...]:
        """The spaces of `chain` that are pooled by a coordinate, with their groups."""
        pairs = ((each, each.pooling.pools) for each in self.chain if each.pooling is not None)
        return tuple((each, pools) for each, pools in pairs if isinstance(pools, PoolGroups))

    def axis(self, name: str) -> Axis | None:
        """The axis of this name, if there is one."""
        return next((axis for axis in self.axes if axis.name == name), None)


class CurveKind(StrEnum):
    """A space-filling curve; see `ir/meaning/curves.py`."""

    HILBERT = auto()
    MORTON = auto()
    SNAKE = auto()


# The sources of a coordinate's values, one for each space that has the coordinate. `i` and the axes need none.


@dataclass(frozen=True)
class Computed:
    """An expression over coordinates of the same token that are declared earlier."""

    value: Expression


@dataclass(frozen=True)
class Along:
    """The position of the token's cell along a curve through the grid of these axes."""

    kind: CurveKind
    axes: tuple[str, ...]


@dataclass(frozen=True)
class Shuffled:
    """A fixed pseudo-random permutation of `i` (over the whole sequence) or of an axis (over its length)."""

    of: str
    seed: int


@dataclass(frozen=True)
class Given:
    """The values of an input with one token dimension."""

    input: str


CoordinateSource = Computed | Along | Shuffled | Given


@dataclass(frozen=True)
class CoordinateDefinition:
    """A coordinate beyond `i` and the axes. It is zero for tokens of spaces that have no source here.

    A curve or shuffle inside an expression becomes a definition named by its text: `hilbert(y, x)`, `shuffle(i, 7)`.
    """

    name: str
    type: Type
    sources: tuple[tuple[str, CoordinateSource], ...]
    """Pairs (name of a space, source of its tokens' values)."""
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Sequence:
    """The queries or the keys: concatenated spaces, their coordinates, and their layout in memory."""

    spaces: tuple[Space, ...]
    coordinates: tuple[CoordinateDefinition, ...] = ()
    """Later definitions may read earlier ones."""
    order: tuple[tuple[Expression, ...], ...] = ()
    """Sort keys of each space (empty: declared order); `()` if no space has any."""

    @cached_property
    def length(self) -> int:
        """Tokens of the sequence."""
        return sum(space.size for space in self.spaces)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Position of each space's first token, the same in declared and in memory order."""
        return tuple(accumulate((space.size for space in self.spaces[:-1]), initial=0))

    @property
    def computed(self) -> tuple[Expression, ...]:
        """The expressions of all computed coordinates, over all spaces."""
        sources = (source for each in self.coordinates for _, source in each.sources)
        return tuple(source.value for source in sources if isinstance(source, Computed))

    @property
    def sort_keys(self) -> tuple[Expression, ...]:
        """The sort keys of all spaces."""
        return tuple(key for keys in self.order for key in keys)

    @cached_property
    def given(self) -> tuple[Space, ...]:
        """The spaces whose tokens a call gives: the roots of all spaces, each once, in order of first occurrence."""
        return tuple(dict.fromkeys(space.root for space in self.spaces))

    @cached_property
    def given_length(self) -> int:
        """Tokens that a call gives."""
        return sum(space.size for space in self.given)

    @cached_property
    def is_pooled(self) -> bool:
        """Whether a space of the sequence is pooled."""
        return any(space.pooling is not None for space in self.spaces)

    def space(self, name: str) -> Space | None:
        """The space of this name, if there is one."""
        return next((space for space in self.spaces if space.name == name), None)

    def definition(self, name: str) -> CoordinateDefinition | None:
        """The definition of this coordinate; None for `i` and the axes."""
        return self.definitions.get(name)

    @cached_property
    def definitions(self) -> dict[str, CoordinateDefinition]:
        """The coordinates beyond `i` and the axes, by name."""
        return {each.name: each for each in self.coordinates}

    def is_permutation(self, name: str) -> bool:
        """Whether the coordinate is a position on a curve or in a shuffle in some space: no formula gives it."""
        definition = self.definition(name)
        return definition is not None and any(isinstance(each, Along | Shuffled) for _, each in definition.sources)

    def has(self, space: Space, name: str) -> bool:
        """Whether the tokens of `space` have the coordinate."""
        definition = self.definition(name)
        if definition is not None:
            return any(owner == space.name for owner, _ in definition.sources)
        return name == "i" or space.axis(name) is not None

    def having(self, name: str) -> tuple[bool, ...]:
        """For each space, whether its tokens have the coordinate."""
        return tuple(self.has(space, name) for space in self.spaces)


class DimensionKind(StrEnum):
    """What a dimension of an input ranges over."""

    BATCH = auto()
    HEADS = auto()
    TOKENS = auto()  # the queries, the keys, the tokens (self-attention), or one space
    FIXED = auto()
    ENTRIES = auto()  # the entries of a sparse input, which `text` names
    DIM = auto()  # the head dim
    FREE = auto()  # any length


_OF_TOKENS = (DimensionKind.BATCH, DimensionKind.HEADS, DimensionKind.TOKENS)
"""The dimensions of an input that is a coordinate, in the order that generated modules use."""


@dataclass(frozen=True)
class Dimension:
    """One dimension of an input."""

    kind: DimensionKind
    size: int | None
    """None for BATCH, ENTRIES, DIM and FREE, whose sizes the call decides."""
    text: str
    """As written: `tokens`, `image`, `2 * size - 1`."""
    here: tuple[int, int] | None = None
    """For HEADS of a mask that has only some of the heads: the first of them, and how many."""
    shared: int = 1
    """For HEADS: the query heads for which callers give one entry, more than one for a dimension of key heads."""

    @property
    def given_size(self) -> int | None:
        """The size that callers give, as far as it is known before a call."""
        return None if self.size is None else self.size // self.shared


INDEXED = "[]"
"""What the name of an input ends in that is a coordinate's tensor, read by index."""
HEAD_DIM = "dim"
"""The name of the input that holds the head dimension, where a pattern reads it."""
HEAD_DIMS = (1, MOST_HEAD_DIM)
"""The least and the largest head dimension."""


def said(name: str) -> str:
    """The name of an input as patterns write it."""
    return name.removesuffix(INDEXED)


@dataclass(frozen=True)
class Input:
    """A tensor of a call: given by the caller, or found by a route. Integers fit 32 bits unless `reach` says more."""

    name: str
    type: Type
    dimensions: tuple[Dimension, ...]
    reach: tuple[int, int] | None = None
    """The least and the largest integer of a computed coordinate that became an input and does not fit 32 bits."""
    sparse: bool = False
    """Whether it is a list of entries: `dimensions` end in rows and columns, and its integers are numbers of entries.

    Its tensor has other dimensions, `held`.
    """
    source: str | None = None
    """The input, a coordinate, whose tensor it also is, read by index; of the head dimension, its own name. None for
    an input that callers give, or a route finds."""
    span: Span | None = field(default=None, compare=False, repr=False)

    @cached_property
    def held(self) -> tuple[Dimension, ...]:
        """The dimensions of its tensor. `ir/values/entries.py` says what the last one of a sparse input holds."""
        if not self.sparse:
            return self.dimensions
        return (*self.dimensions[:-2], Dimension(DimensionKind.FREE, None, "entries"))

    @cached_property
    def lists(self) -> str | None:
        """The name of the sparse input of which it has one number an entry; None for other inputs."""
        return next((each.text for each in self.dimensions if each.kind is DimensionKind.ENTRIES), None)

    @cached_property
    def kinds(self) -> tuple[DimensionKind, ...]:
        """The kind of each dimension."""
        return tuple(dimension.kind for dimension in self.dimensions)

    @cached_property
    def is_coordinate(self) -> bool:
        """Whether it has exactly one token dimension and otherwise batch or heads: read as `q.name`, not by index."""
        is_plain = self.source is None and not self.sparse and set(self.kinds) <= set(_OF_TOKENS)
        return is_plain and self.kinds.count(DimensionKind.TOKENS) == 1

    @property
    def whole(self) -> "Input":
        """The input as masks read it: an entry of a key head is there once for each of its query heads."""
        return replace(self, dimensions=tuple(replace(each, shared=1) for each in self.dimensions))

    @cached_property
    def arrangement(self) -> tuple[int, ...]:
        """The axis numbers of batch, heads and tokens, in this order, of those that it has."""
        return tuple(self.kinds.index(kind) for kind in _OF_TOKENS if kind in self.kinds)

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """Which of batch (0), heads (1) and tokens (2) it lacks."""
        return tuple(axis for axis, kind in enumerate(_OF_TOKENS) if kind not in self.kinds)

    @cached_property
    def heads_here(self) -> tuple[int, int] | None:
        """The first head of the mask and the number of heads, if the input has an entry for other heads too."""
        return next((each.here for each in self.dimensions if each.here is not None), None)


class Normalize(StrEnum):
    """What makes probabilities of final scores; the texts of the statement `normalize`."""

    BY_QUERY = "softmax by q"
    """One softmax for each query, over its keys and sinks."""
    BY_KEY = "softmax by k"
    """One softmax for each key, over its queries."""
    NONE = "none"
    """Scores are probabilities."""


@dataclass(frozen=True)
class Clause:
    """One `attend` or `require` line."""

    relation: Expression
    span: Span | None = field(default=None, compare=False, repr=False)
    label: str = field(default="", compare=False, repr=False)
    """What stands for its text: `branch window[3]` for a branch, which is a line of its pattern."""


@dataclass(frozen=True)
class MaskIR:
    """A bound pattern. In self-attention `queries == keys`."""

    name: str
    parameters: tuple[tuple[str, object], ...]
    heads: int
    queries: Sequence
    keys: Sequence
    self_attention: bool
    inputs: tuple[Input, ...]
    """Given by the caller, or computed by a route or a product of the same name in `routed` or `products`."""
    attend: tuple[Clause, ...]
    require: tuple[Clause, ...]
    relation: Expression
    """The disjunction of `attend` and the conjunction of `require`, simplified: which pairs attend."""
    scores: tuple[Expression, ...] = ()
    """Float expressions, applied to `Score()` one after the other."""
    weight: Expression | None = None
    """Float, the product of the factors of all `weight` lines that read the key: a factor of the probabilities."""
    factor: Expression | None = None
    """Float, the product of the other factors: of the query alone, and so a factor of its output."""
    sinks: tuple[Expression, ...] = ()
    """Floats of the query alone: scores of keys that it also attends, whose values are zero."""
    normalize: Normalize = Normalize.BY_QUERY
    scale: Expression | None = None
    """Float without `Score()`; None means 1 / sqrt(head dim)."""
    auto: tuple[str, ...] = ()
    """Spaces with `order auto` whose order is not chosen yet; `analysis/orders/binding.py` chooses it."""
    routed: tuple[Routed, ...] = ()
    """Inputs that are computed from the queries and keys of a call, each after the ones that it reads."""
    products: tuple[VectorProduct, ...] = ()
    """Inputs that scores read, which a call computes from vectors."""
    pairs: tuple[PairProduct, ...] = ()
    """The products of vectors whose sum is the score before the first line; empty for the query times the key."""
    key_value: Vector | None = None
    """What takes the place of the value of a key; None for the value itself."""
    values: tuple[ValueTerm, ...] = ()
    """What pairs add to the output beside it."""
    unread: tuple[str, ...] = ()
    """Declared inputs that nothing reads, which are none of `inputs`: calls may give them or leave them out."""
    branch: str = ""
    """The name of the branch that the mask is, `content` or `window[3]`; empty for a whole pattern."""
    branches: tuple["MaskIR", ...] = ()
    """Masks whose attentions add up. This mask then attends what some branch does, and changes no scores."""
    whole: Heads | None = None
    """Which heads of a larger attention the mask is for; None if it is for all."""
    doc: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)
    cautions: tuple[Caution, ...] = field(default=(), compare=False, repr=False)
    """Warnings, without those that a comment in the source allows."""

    @cached_property
    def sequences(self) -> dict[Side, Sequence]:
        """The sequence of each side of a pair."""
        return {Side.QUERY: self.queries, Side.KEY: self.keys}

    def kind(self, side: Side) -> Side:
        """The kind of token of a side: TOKEN for both sides in self-attention."""
        return Side.TOKEN if self.self_attention else side

    @property
    def kinds(self) -> dict[Side, Sequence]:
        """The sequence of each kind of token: one in self-attention, else two."""
        return {self.kind(side): sequence for side, sequence in self.sequences.items()}

    @cached_property
    def pair_expressions(self) -> tuple[Expression, ...]:
        """All expressions over a pair: the relation, scores, weight and scale."""
        return self.relation, *self.pair_values

    @property
    def pair_values(self) -> tuple[Expression, ...]:
        """The expressions that are evaluated for attending pairs only: scores, weight and scale."""
        return tuple(each for each in (*self.scores, self.weight, self.scale) if each is not None)

    @property
    def query_values(self) -> tuple[Expression, ...]:
        """The expressions over the query alone, which are applied to its output and log-sum-exp: sinks and factor."""
        return (*self.sinks, *(() if self.factor is None else (self.factor,)))

    @property
    def has_sums(self) -> bool:
        """Whether a query has a log-sum-exp: the logarithm of what its exponentials are divided by."""
        return self.normalize is Normalize.BY_QUERY

    def throughout(self, change: "Callable[[MaskIR], MaskIR]") -> "MaskIR":
        """The mask with a change made to it and to each of its branches."""
        return replace(change(self), branches=tuple(map(change, self.branches)))

    def mapped(self, rewrite: Rewrite) -> "MaskIR":
        """The mask with `rewrite` applied to all expressions over a pair, and to those of its routes."""

        def clauses(of: tuple[Clause, ...]) -> tuple[Clause, ...]:
            return tuple(replace(each, relation=rewrite(each.relation)) for each in of)

        return replace(
            self,
            attend=clauses(self.attend),
            require=clauses(self.require),
            relation=rewrite(self.relation),
            scores=tuple(map(rewrite, self.scores)),
            weight=None if self.weight is None else rewrite(self.weight),
            factor=None if self.factor is None else rewrite(self.factor),
            sinks=tuple(map(rewrite, self.sinks)),
            scale=None if self.scale is None else rewrite(self.scale),
            routed=tuple(each.mapped(rewrite) if isinstance(each, Route) else each for each in self.routed),
            products=tuple(each.mapped(rewrite) for each in self.products),
            pairs=tuple(each.mapped(rewrite) for each in self.pairs),
            branches=tuple(each.mapped(rewrite) for each in self.branches),
            key_value=mapped_by(self.key_value, rewrite),
            values=tuple(each.mapped(rewrite) for each in self.values),
        )

    @property
    def declared(self) -> "MaskIR":
        """The mask with all tokens in declared order."""
        queries, keys = (replace(each, order=()) for each in (self.queries, self.keys))
        return self.throughout(lambda each: replace(each, queries=queries, keys=keys))

    @property
    def here(self) -> slice:
        """The heads of the mask, as a slice of the heads of the whole attention."""
        first = self.whole.first if self.whole is not None else 0
        return slice(first, first + self.heads)

    @property
    def is_layer(self) -> bool:
        """Whether keys are the tokens of the queries or pooled from them, so that layers can be stacked."""
        return self.keys.given == self.queries.spaces

    @cached_property
    def pooled_spaces(self) -> tuple[Space, ...]:
        """The pooled spaces of either side, and those that they are pooled from, each behind its source."""
        spaces = (space for sequence in (self.queries, self.keys) for space in sequence.spaces)
        return tuple(dict.fromkeys(each for space in spaces for each in space.chain[1:]))

    @cached_property
    def groupings(self) -> tuple[tuple[Space, PoolGroups], ...]:
        """The pooled spaces that are pooled by a coordinate, with their groups."""
        return tuple(dict.fromkeys(each for space in self.pooled_spaces for each in space.groupings))

    @cached_property
    def given(self) -> tuple[Input, ...]:
        """The inputs that the caller gives."""
        return tuple(each for each in self.passed if each.source is None)

    @cached_property
    def passed(self) -> tuple[Input, ...]:
        """The inputs that a call has before routes are found: those that the caller gives, and those made of them."""
        names = {each.name for each in (*self.routed, *self.products, *self.values)}
        return tuple(each for each in self.inputs if each.name not in names)

    @property
    def multiplies(self) -> bool:
        """Whether scores read products of vectors beside that of the query and the key, or values are others."""
        return bool(self.products or self.pairs or self.values or self.key_value is not None)

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """All vectors that products multiply, and of values."""
        tables = ((each.left, each.right) for each in self.products)
        values = [] if self.key_value is None else [self.key_value]
        values += [each.vector for each in self.values]
        return (*chain.from_iterable((*tables, *((each.query, each.key) for each in self.pairs))), *values)

    @property
    def pooled_vectors(self) -> tuple[OfGroup, ...]:
        """The pools of tokens among these vectors and what they are computed from."""
        leaves = chain.from_iterable(map(vector_leaves, self.vectors))
        return tuple(dict.fromkeys(each for each in leaves if isinstance(each, OfGroup)))

    @property
    def rows(self) -> tuple[TableRow, ...]:
        """The rows of tables among these vectors and what they are computed from."""
        leaves = chain.from_iterable(map(vector_leaves, self.vectors))
        return tuple(dict.fromkeys(each for each in leaves if isinstance(each, TableRow)))

    @cached_property
    def unmultiplied(self) -> tuple[Input, ...]:
        """The inputs that are known before products of vectors are computed: given ones, and results of routes."""
        names = {each.name for each in self.products} | {each.name for each in self.values}
        return tuple(each for each in self.inputs if each.name not in names)

    @cached_property
    def pool_counts(self) -> dict[str, int]:
        """The inputs whose values are numbers of pools, by name, and how many pools there are."""
        pairs = [(groups.tokens.definition(groups.by), space.size) for space, groups in self.groupings]
        return {
            source.input: count
            for definition, count in sorted(pairs, key=lambda pair: -pair[1])
            for _, source in (definition.sources if definition is not None else ())
            if isinstance(source, Given)
        }

    def input(self, name: str) -> Input | None:
        """The input of this name, if there is one."""
        return self._named.get(name)

    def named(self, names: Container[str]) -> tuple[Input, ...]:
        """The inputs of these names, in declared order."""
        return tuple(each for each in self.inputs if each.name in names)

    @cached_property
    def _named(self) -> dict[str, Input]:
        return {each.name: each for each in self.inputs}

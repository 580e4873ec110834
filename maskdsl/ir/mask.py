"""What a bound pattern means: the root of the IR. Every length and parameter is a number; `heads` is folded in.

Frozen data made by `maskdsl.bind`, checked by `ir/invariants.py`, given its meaning by `ir/meaning/evaluate.py`.
"""

from collections.abc import Container
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from functools import cached_property
from itertools import accumulate

from maskdsl.base.diagnostics import Caution
from maskdsl.base.source import Span
from maskdsl.ir.expressions import Expression, Side
from maskdsl.ir.heads import Heads
from maskdsl.ir.ops import Type
from maskdsl.ir.routes import Rewrite, Route, Routed


@dataclass(frozen=True, slots=True)
class Axis:
    name: str
    length: int


class PoolingKind(StrEnum):
    MEAN = auto()
    MAX = auto()


@dataclass(frozen=True, slots=True)
class Pooling:
    """Each token is the mean or the elementwise maximum of a box of tokens of `source`.

    Boxes stand side by side from the first token on; the last of an axis takes the tokens that there are.
    """

    kind: PoolingKind
    source: "Space"
    box: tuple[int, ...]
    """The tokens of a box along each axis of the source, at most the axis' length."""


@dataclass(frozen=True)
class Space:
    """Tokens on a grid, row-major, the last axis fastest. The axis of `space text[512]` bears the space's name."""

    name: str
    axes: tuple[Axis, ...]
    pooling: Pooling | None = None
    """Where its keys and values come from; None if they are given."""
    span: Span | None = field(default=None, compare=False, repr=False)

    @cached_property
    def size(self) -> int:
        size = 1
        for axis in self.axes:
            size *= axis.length
        return size

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        return tuple(axis.length for axis in self.axes)

    @cached_property
    def chain(self) -> "tuple[Space, ...]":
        """The space that is given, and what is pooled from it step by step, up to this one."""
        return (*(self.pooling.source.chain if self.pooling is not None else ()), self)

    @property
    def root(self) -> "Space":
        """The space that is given: itself, or what it is pooled from in the end."""
        return self.chain[0]

    def axis(self, name: str) -> Axis | None:
        return next((axis for axis in self.axes if axis.name == name), None)


class CurveKind(StrEnum):
    HILBERT = auto()
    MORTON = auto()
    SNAKE = auto()


# Where the values of a coordinate come from, one of these for each space that has it. (`i` and the axes need none.)


@dataclass(frozen=True, slots=True)
class Computed:
    """From other coordinates of the same token, all declared before this one."""

    value: Expression


@dataclass(frozen=True, slots=True)
class Along:
    """The cell's position along a curve that fills the box of these axes of the space."""

    kind: CurveKind
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shuffled:
    """A fixed pseudo-random permutation of `of`: `i` (over the whole sequence) or an axis (over its length)."""

    of: str
    seed: int


@dataclass(frozen=True, slots=True)
class Given:
    """The values of the input of this name that has one token dimension."""

    input: str


CoordinateSource = Computed | Along | Shuffled | Given


@dataclass(frozen=True, slots=True)
class CoordinateDefinition:
    """A coordinate beyond `i` and the axes. Tokens of spaces not named here do not have it, and read as zero.

    Curves and shuffles written in the middle of an expression become definitions of their own, named by their text:
    `hilbert(y, x)`, `shuffle(i, 7)`.
    """

    name: str
    type: Type
    sources: tuple[tuple[str, CoordinateSource], ...]
    """Pairs (name of a space, where its tokens get their values)."""
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Sequence:
    """The queries or the keys: spaces one behind the other, with their coordinates and their layout in memory."""

    spaces: tuple[Space, ...]
    coordinates: tuple[CoordinateDefinition, ...] = ()
    """Later ones may read earlier ones."""
    order: tuple[tuple[Expression, ...], ...] = ()
    """Sort keys for each space (empty: declared order); `()` when no space has any."""

    @cached_property
    def length(self) -> int:
        return sum(space.size for space in self.spaces)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Declared (and laid-out) position of each space's first token."""
        return tuple(accumulate((space.size for space in self.spaces[:-1]), initial=0))

    @property
    def computed(self) -> tuple[Expression, ...]:
        """What coordinates are computed from, in all spaces."""
        sources = (source for each in self.coordinates for _, source in each.sources)
        return tuple(source.value for source in sources if isinstance(source, Computed))

    @property
    def sort_keys(self) -> tuple[Expression, ...]:
        """Of all spaces."""
        return tuple(key for keys in self.order for key in keys)

    @cached_property
    def given(self) -> tuple[Space, ...]:
        """The spaces whose tokens a call gives: each pooled one replaced by its root, each once, as they first come."""
        return tuple(dict.fromkeys(space.root for space in self.spaces))

    @cached_property
    def given_length(self) -> int:
        return sum(space.size for space in self.given)

    @cached_property
    def is_pooled(self) -> bool:
        return any(space.pooling is not None for space in self.spaces)

    def space(self, name: str) -> Space | None:
        return next((space for space in self.spaces if space.name == name), None)

    def definition(self, name: str) -> CoordinateDefinition | None:
        return self.definitions.get(name)

    @cached_property
    def definitions(self) -> dict[str, CoordinateDefinition]:
        """Of all coordinates beyond `i` and the axes, by name."""
        return {each.name: each for each in self.coordinates}

    def is_placed(self, name: str) -> bool:
        """The coordinate is a place on a curve or in a shuffle, in one space at least: no formula gives it."""
        definition = self.definition(name)
        return definition is not None and any(isinstance(each, Along | Shuffled) for _, each in definition.sources)

    def has(self, space: Space, name: str) -> bool:
        """Whether the tokens of a space have the coordinate."""
        definition = self.definition(name)
        if definition is not None:
            return any(owner == space.name for owner, _ in definition.sources)
        return name == "i" or space.axis(name) is not None

    def having(self, name: str) -> tuple[bool, ...]:
        """For each space, whether its tokens have the coordinate."""
        return tuple(self.has(space, name) for space in self.spaces)


class DimensionKind(StrEnum):
    BATCH = auto()
    HEADS = auto()
    TOKENS = auto()  # all tokens of the queries, of the keys, of both (self-attention), or of one space
    FIXED = auto()
    DIM = auto()  # the head dim
    FREE = auto()  # any length


_OF_TOKENS = (DimensionKind.BATCH, DimensionKind.HEADS, DimensionKind.TOKENS)
"""What values of tokens may have, in the order of generated modules."""


@dataclass(frozen=True, slots=True)
class Dimension:
    kind: DimensionKind
    size: int | None
    """None for BATCH, DIM and FREE, which are known at the call."""
    text: str
    """As written: `tokens`, `image`, `2 * size - 1`."""
    here: tuple[int, int] | None = None
    """Of HEADS: the first that the mask is for and how many, where it is not for all."""


@dataclass(frozen=True)
class Input:
    """A tensor given at the call. Integers must fit 32 bits, but for those that were computed and are given anew."""

    name: str
    type: Type
    dimensions: tuple[Dimension, ...]
    reach: tuple[int, int] | None = None
    """The least and the largest integer of what was computed, where 32 bits do not hold them."""
    span: Span | None = field(default=None, compare=False, repr=False)

    @cached_property
    def kinds(self) -> tuple[DimensionKind, ...]:
        return tuple(dimension.kind for dimension in self.dimensions)

    @cached_property
    def is_coordinate(self) -> bool:
        """One token dimension, the others batch or heads: read as `q.name`, not by index."""
        return self.kinds.count(DimensionKind.TOKENS) == 1 and set(self.kinds) <= set(_OF_TOKENS)

    @cached_property
    def arrangement(self) -> tuple[int, ...]:
        """Where batch, heads and tokens stand, those of them that it has."""
        return tuple(self.kinds.index(kind) for kind in _OF_TOKENS if kind in self.kinds)

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """Those of the axes batch, heads and tokens that it has not."""
        return tuple(axis for axis, kind in enumerate(_OF_TOKENS) if kind not in self.kinds)

    @cached_property
    def heads_here(self) -> tuple[int, int] | None:
        """The first of the heads that are here and how many, where it has one for each head and more than these."""
        return next((each.here for each in self.dimensions if each.here is not None), None)


@dataclass(frozen=True, slots=True)
class Clause:
    """One `attend` or `require` line."""

    relation: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class MaskIR:
    """A bound pattern. `queries is keys` in meaning (equal values) when the pattern is self-attention."""

    name: str
    parameters: tuple[tuple[str, object], ...]
    heads: int
    queries: Sequence
    keys: Sequence
    self_attention: bool
    inputs: tuple[Input, ...]
    """Those that callers give, and those that are found."""
    attend: tuple[Clause, ...]
    require: tuple[Clause, ...]
    relation: Expression
    """Any of `attend` and all of `require`, simplified."""
    scores: tuple[Expression, ...] = ()
    """Applied in turn to `Score()`, first to last; floats."""
    weight: Expression | None = None
    """Float, the product of all `weight` lines."""
    scale: Expression | None = None
    """Float without `Score()`; None means 1 / sqrt(head dim)."""
    auto: tuple[str, ...] = ()
    """Spaces whose order is still to be found, as `orders.bind_mask` does; until then they are as declared."""
    routed: tuple[Routed, ...] = ()
    """What is found in the queries and keys of a call, each after what it reads: the inputs of these names."""
    whole: Heads | None = None
    """The heads of the whole attention, and which of them these are, where it was said."""
    doc: str = ""
    span: Span | None = field(default=None, compare=False, repr=False)
    cautions: tuple[Caution, ...] = field(default=(), compare=False, repr=False)
    """Warnings that no comment of the text allows."""

    @cached_property
    def sequences(self) -> dict[Side, Sequence]:
        """Of the sides of a pair."""
        return {Side.QUERY: self.queries, Side.KEY: self.keys}

    def kind(self, side: Side) -> Side:
        """In self-attention one TOKEN is a query and a key."""
        return Side.TOKEN if self.self_attention else side

    @property
    def kinds(self) -> dict[Side, Sequence]:
        """Of the different kinds of tokens."""
        return {self.kind(side): sequence for side, sequence in self.sequences.items()}

    @cached_property
    def pair_expressions(self) -> tuple[Expression, ...]:
        """Everything that is evaluated for a pair of tokens."""
        return self.relation, *self.pair_values

    @property
    def pair_values(self) -> tuple[Expression, ...]:
        """What is evaluated for pairs that attend."""
        return tuple(each for each in (*self.scores, self.weight, self.scale) if each is not None)

    def mapped(self, rewrite: Rewrite) -> "MaskIR":
        """With all that is evaluated for pairs rewritten, and all by which routes select."""

        def clauses(of: tuple[Clause, ...]) -> tuple[Clause, ...]:
            return tuple(replace(each, relation=rewrite(each.relation)) for each in of)

        return replace(
            self,
            attend=clauses(self.attend),
            require=clauses(self.require),
            relation=rewrite(self.relation),
            scores=tuple(map(rewrite, self.scores)),
            weight=None if self.weight is None else rewrite(self.weight),
            scale=None if self.scale is None else rewrite(self.scale),
            routed=tuple(each.mapped(rewrite) if isinstance(each, Route) else each for each in self.routed),
        )

    @property
    def declared(self) -> "MaskIR":
        """With tokens in no other order than declared."""
        return replace(self, queries=replace(self.queries, order=()), keys=replace(self.keys, order=()))

    @property
    def here(self) -> slice:
        """Those of the heads of the whole attention that these are."""
        first = self.whole.first if self.whole is not None else 0
        return slice(first, first + self.heads)

    @property
    def is_layer(self) -> bool:
        """Keys are the tokens of the queries, or pooled from these: what comes out can go in again."""
        return self.keys.given == self.queries.spaces

    @cached_property
    def given(self) -> tuple[Input, ...]:
        """The inputs that callers give."""
        names = {each.name for each in self.routed}
        return tuple(each for each in self.inputs if each.name not in names)

    def input(self, name: str) -> Input | None:
        return self._named.get(name)

    def named(self, names: Container[str]) -> tuple[Input, ...]:
        """The inputs of these names, as declared."""
        return tuple(each for each in self.inputs if each.name in names)

    @cached_property
    def _named(self) -> dict[str, Input]:
        return {each.name: each for each in self.inputs}

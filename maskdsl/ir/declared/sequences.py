"""Spaces, the tokens that they are pooled from, and the sequences of queries and keys that they make. Frozen data."""

from dataclasses import field
from enum import StrEnum, auto
from functools import cached_property
from itertools import accumulate

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.expressions import Coordinate, Expression, Side
from maskdsl.ir.ops import Type


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
    counts: str | None = None
    """A coordinate that is 0 for pools without tokens, which are in no group; None if there are none."""

    @property
    def counted(self) -> tuple[Expression, ...]:
        """What is read of tokens to know whether they are in groups."""
        return () if self.counts is None else (Coordinate(Side.TOKEN, self.counts),)

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

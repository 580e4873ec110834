"""The scope of a random expression: the coordinates, constants, tables and macros that it may read."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from maskdsl.testing.texts import Piece

WORD = 2**31
POSITIONS = 64
"""The longest sequence or axis: the reach of a coordinate is then the same in every space."""


@dataclass(frozen=True)
class DrawnSpace:
    name: str
    axes: tuple[tuple[str, int], ...]
    """Names and lengths."""

    @property
    def size(self) -> int:
        size = 1
        for _, length in self.axes:
            size *= length
        return size

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.axes)

    @property
    def lengths(self) -> dict[str, int]:
        return dict(self.axes)


@dataclass(frozen=True)
class Readable:
    """A coordinate: its type, and the largest absolute value that its type or its definition allows."""

    type: str
    reach: float = POSITIONS
    positive: bool = False
    """Whether its definition makes it positive, so that it may divide."""


@dataclass(frozen=True)
class DrawnTable:
    """An input that is indexed: `batch`, `heads`, `queries`, `keys` or a length for each dimension."""

    name: str
    type: str
    dimensions: tuple[str | int, ...]


@dataclass(frozen=True)
class Named:
    """A relation with a name, and the pairs of spaces for which it may be read."""

    name: str
    pairs: frozenset[tuple[str, str]]


@dataclass(frozen=True)
class DrawnWorld:
    """Everything that a pattern declares."""

    queries: tuple[DrawnSpace, ...]
    keys: tuple[DrawnSpace, ...]
    cross: bool
    heads: int
    key_heads: bool = False
    """Whether expressions may read `key_head` and `key_heads`."""
    coordinates: Mapping[tuple[str, str], Mapping[str, Readable]] = field(default_factory=dict)
    """Coordinates other than `i` and the axes, by side (`q` or `k`) and space."""
    constants: Mapping[str, int] = field(default_factory=dict)
    floats: tuple[str, ...] = ()
    """The names of parameters that are floats."""
    tuples: Mapping[str, int] = field(default_factory=dict)
    """Parameters that are tuples of positive integers, with their lengths."""
    tables: tuple[DrawnTable, ...] = ()
    relations: tuple[Named, ...] = ()
    macros: tuple[str, ...] = ()
    """Relations with the parameters (size, axis: axis = i)."""

    @property
    def spaces(self) -> tuple[DrawnSpace, ...]:
        return tuple(dict.fromkeys([*self.queries, *self.keys]))

    def side(self, side: str) -> tuple[DrawnSpace, ...]:
        return self.queries if side == "q" else self.keys

    def sides_of(self, space: DrawnSpace) -> tuple[str, ...]:
        return tuple(side for side in "qk" if space in self.side(side))

    def readable(self, side: str, space: DrawnSpace) -> dict[str, Readable]:
        axes = {name: Readable("int") for name in ("i", *space.names)}
        return {**axes, **self.coordinates.get((side, space.name), {})}

    def all_pairs(self) -> frozenset[tuple[str, str]]:
        return frozenset((a.name, b.name) for a in self.queries for b in self.keys)


@dataclass(frozen=True)
class DrawnScope:
    """The scope of an expression over a pair, or over one token of the space `token`."""

    world: DrawnWorld
    pairs: frozenset[tuple[str, str]] = frozenset()
    token: DrawnSpace | None = None
    score: bool = False
    parameters: Mapping[str, Piece] | None = None
    """The arguments of the parameters, in a macro. An axis has the reach of every coordinate."""

    def spaces(self, side: str) -> list[DrawnSpace]:
        """The spaces that the token of a side may be in."""
        if self.parameters is not None:
            return []
        names = {pair[side == "k"] for pair in self.pairs}
        return [space for space in self.world.side(side) if space.name in names]

    def readable(self, side: str) -> dict[str, Readable]:
        """The coordinates that every token has which may be meant; `side` is empty for a single token."""
        if self.token is not None:
            readable = [self.world.readable(each, self.token) for each in self.world.sides_of(self.token)]
        elif self.parameters is not None:
            return {"i": Readable("int"), "axis": Readable("int", WORD)}
        else:
            readable = [self.world.readable(side, space) for space in self.spaces(side)]
        first, *others = readable or [{"i": Readable("int")}]
        return {name: each for name, each in first.items() if all(name in other for other in others)}

    def on_both_sides(self, *types: str) -> list[str]:
        """The coordinates of these types that both tokens have."""
        keys = self.readable("k")
        return [name for name, each in self.readable("q").items() if each.type in types and name in keys]

    def constants(self) -> dict[str, int]:
        """Bare names with known values; in `coord` and `order`, coordinates hide them."""
        if self.parameters is not None:
            return {}
        if self.token is None:
            return dict(self.world.constants)
        taken = {name for space in self.world.spaces for side in "qk" for name in self.world.readable(side, space)}
        return {name: value for name, value in self.world.constants.items() if name not in taken}

    def common_axes(self) -> tuple[str, ...]:
        """The axes of the one grid that both tokens are in; empty if there is none."""
        axes = {space.names for side in "qk" for space in self.spaces(side)}
        return axes.pop() if len(axes) == 1 else ()

    def measured_axes(self) -> dict[str, int]:
        """The axes that have the same length on both sides, with this length."""
        spaces = [space for side in "qk" for space in self.spaces(side)]
        lengths = {name: {each.lengths.get(name) for each in spaces} for space in spaces for name in space.names}
        return {name: length for name, known in lengths.items() if len(known) == 1 and (length := next(iter(known)))}

    def narrowed(self, pairs: frozenset[tuple[str, str]]) -> "DrawnScope":
        return replace(self, pairs=pairs)

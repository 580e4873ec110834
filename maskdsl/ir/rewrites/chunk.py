"""Masks over gathered tokens of another mask: a chunk against its first keys, packed sequences, or any tokens.

Every coordinate that pairs read becomes an input that holds the values of the gathered tokens. So later stages treat a
gathered mask like any mask with inputs, and one gathered mask serves all calls of equal lengths.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto
from functools import cached_property
from typing import NamedTuple

from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import Dimension, DimensionKind, Input
from maskdsl.ir.declared.sequences import Axis, CoordinateDefinition, Given, Sequence, Space
from maskdsl.ir.expressions import (
    PAIR,
    TRUE,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Side,
    apply,
    rebuild,
)
from maskdsl.ir.facts.ranges import INT32, Range, mask_leaf
from maskdsl.ir.facts.reads import Reads, reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify

_BATCH = Dimension(DimensionKind.BATCH, None, "batch")
Leaf = Coordinate | InSpace


class Origin(Enum):
    """How the tokens of the whole mask get the values of a leaf."""

    GIVEN = auto()
    """From an input, in all spaces that have the coordinate."""
    FIXED = auto()
    """From no input and no batch entry."""
    COMPUTED = auto()
    """Computed from inputs or the batch entry."""


class Value(NamedTuple):
    """A leaf that pairs read, and the input of the gathered mask that holds its values."""

    leaf: Leaf
    declared: Input
    origin: Origin


@dataclass(frozen=True)
class Gathered(ABC):
    """A mask over `queries` and `keys` tokens gathered from the mask `whole`. Names of its new inputs contain a dot."""

    whole: MaskIR
    queries: int
    keys: int

    @property
    @abstractmethod
    def condition(self) -> Expression:
        """An additional condition on attending pairs."""

    @property
    @abstractmethod
    def conditions(self) -> tuple[Input, ...]:
        """The inputs that the condition reads, one value per token."""

    @abstractmethod
    def kinds(self, node: Leaf) -> frozenset[DimensionKind]:
        """The dimensions of a leaf's values, beside the tokens."""

    @property
    def heads(self) -> int:
        """The heads of the gathered mask."""
        return self.whole.heads

    @property
    def heads_of_whole(self) -> Heads | None:
        """Which heads of a larger attention these are; None if it is for all."""
        return self.whole.whole

    @cached_property
    def mask(self) -> MaskIR:
        """The gathered mask."""
        moved = self.whole.mapped(self.moved)
        return replace(
            moved,
            heads=self.heads,
            whole=self.heads_of_whole,
            queries=self.sequence(Side.QUERY),
            keys=self.sequence(Side.KEY),
            self_attention=False,
            inputs=(*self.tables, *(each.declared for each in self.values), *self.conditions),
            attend=(),
            require=(),
            relation=simplify(apply(Op.AND, moved.relation, self.condition)),
            routed=self.whole.routed,
        )

    @cached_property
    def reads(self) -> Reads:
        """What the whole mask's expressions read."""
        return reads(*self.whole.expressions)

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """The leaves of these expressions that belong to a token."""
        return tuple(leaf for leaf in self.reads.leaves if isinstance(leaf, Coordinate | InSpace))

    @property
    def tables(self) -> tuple[Input, ...]:
        """The inputs that pairs read by index."""
        return tuple(map(_plain, self.whole.named(self.reads.inputs)))

    def name(self, node: Leaf) -> str:
        """The name of the input that holds a leaf's values: `q.name`, or `q.in space`."""
        return f"{node.side.letter}.{node.name if isinstance(node, Coordinate) else f'in {node.space}'}"

    def moved(self, expression: Expression) -> Expression:
        """The expression over gathered tokens."""
        return rebuild(expression, self.replaced)

    def replaced(self, node: Expression) -> Expression | None:
        """The node over gathered tokens; None if it stays as it is."""
        if isinstance(node, Coordinate | InSpace):
            return Coordinate(node.side, self.name(node), node.type)
        return None

    def sequence(self, side: Side) -> Sequence:
        """The gathered tokens of a side: one space, all coordinates given by inputs."""
        types = {self.name(node): node.type for node in self.leaves if node.side is side}
        types |= {each.name: each.type for each in self.conditions if each.name.startswith(side.letter)}
        word = side.plural
        return Sequence(
            (Space(word, (Axis(word, self.length(side)),)),),
            tuple(CoordinateDefinition(name, kind, ((word, Given(name)),)) for name, kind in types.items()),
        )

    @cached_property
    def values(self) -> "tuple[Value, ...]":
        """Every leaf with its input."""
        return tuple(Value(node, self.declared(node), self.origin(node)) for node in self.leaves)

    def origin(self, node: Leaf) -> Origin:
        """How the whole mask's tokens get the values of a leaf."""
        definition = self.tokens(node).definition(node.name) if isinstance(node, Coordinate) else None
        if definition is not None and all(isinstance(source, Given) for _, source in definition.sources):
            return Origin.GIVEN
        traced = trace(self.tokens(node), [node])
        return Origin.COMPUTED if traced.inputs or traced.reads.batch else Origin.FIXED

    def length(self, side: Side) -> int:
        """The number of gathered tokens of a side."""
        return self.queries if side is Side.QUERY else self.keys

    def declared(self, node: Leaf) -> Input:
        """The declaration of the input that holds a leaf's values."""
        kinds = self.kinds(node)
        dimensions = (_BATCH, Dimension(DimensionKind.HEADS, self.heads, "heads"))
        varying = tuple(each for each in dimensions if each.kind in kinds)
        return Input(self.name(node), node.type, (*varying, self.token_dimension(node.side)), self.reach(node))

    @cached_property
    def range_of(self) -> Callable[[Leaf], Range]:
        """The static ranges of the whole mask's leaves."""
        return mask_leaf(self.whole)

    def reach(self, node: Leaf) -> tuple[int, int] | None:
        """The range of an integer leaf that does not fit 32 bits; else None."""
        if not isinstance(node, Coordinate) or node.type is not Type.INT:
            return None
        low, high = self.range_of(node)
        return None if low in INT32 and high in INT32 else (low, high)

    def token_dimension(self, side: Side) -> Dimension:
        """The dimension of a side's gathered tokens."""
        return Dimension(DimensionKind.TOKENS, self.length(side), side.plural)

    def varying(self, node: Leaf) -> frozenset[DimensionKind]:
        """Which of BATCH and HEADS a leaf's values depend on."""
        return trace(self.tokens(node), [node]).varies(self.whole)

    def tokens(self, node: Leaf) -> Sequence:
        """The whole mask's sequence of a leaf."""
        return self.whole.sequences[node.side]


def _plain(table: Input) -> Input:
    """A table that calls of the gathered mask give, also if calls of the whole mask make it of a coordinate."""
    if table.source is None:
        return table
    sides = (
        replace(each, kind=DimensionKind.FIXED) if each.kind is DimensionKind.TOKENS else each
        for each in table.dimensions
    )
    return replace(table, dimensions=tuple(sides), source=None)


PRESENT = "k.present"
"""The input that says which keys each batch entry has: bool [batch, keys]."""


@dataclass(frozen=True)
class Chunk(Gathered):
    """Consecutive queries, from another position in each batch entry, against the first keys: decoding and prefill."""

    @property
    def condition(self) -> Expression:
        return Coordinate(Side.KEY, PRESENT, Type.BOOL)

    @property
    def conditions(self) -> tuple[Input, ...]:
        return (Input(PRESENT, Type.BOOL, (_BATCH, self.token_dimension(Side.KEY))),)

    def kinds(self, node: Leaf) -> frozenset[DimensionKind]:
        return self.varying(node) | ({DimensionKind.BATCH} if node.side is Side.QUERY else set())


@dataclass(frozen=True)
class Chosen(Gathered):
    """Any queries against any keys, for `count` heads from `first` on: what one process of several computes."""

    first: int
    count: int

    @property
    def condition(self) -> Expression:
        return TRUE

    @property
    def conditions(self) -> tuple[Input, ...]:
        return ()

    @property
    def heads(self) -> int:
        return self.count

    @property
    def heads_of_whole(self) -> Heads | None:
        whole = self.whole.whole
        return None if whole is None else replace(whole, first=whole.first + self.first, local=self.count)

    def kinds(self, node: Leaf) -> frozenset[DimensionKind]:
        return self.varying(node)

    def replaced(self, node: Expression) -> Expression | None:
        if isinstance(node, Head) and self.first:
            return apply(Op.ADD, node, Constant(self.first))
        return super().replaced(node)


SEQUENCES = {side: f"{side.letter}.sequence" for side in PAIR}
"""The inputs that hold the number of each token's sequence: int [queries] and int [keys]."""


@dataclass(frozen=True)
class Packed(Gathered):
    """Packed sequences (varlen): each is the first tokens of the pattern, and takes the place of a batch entry."""

    sequences: int

    @property
    def condition(self) -> Expression:
        return apply(Op.EQUAL, *(Coordinate(side, name) for side, name in SEQUENCES.items()))

    @property
    def conditions(self) -> tuple[Input, ...]:
        return tuple(Input(name, Type.INT, (self.token_dimension(side),)) for side, name in SEQUENCES.items())

    @property
    def tables(self) -> tuple[Input, ...]:
        """The tables, with an entry per sequence in place of batch entries."""
        count = Dimension(DimensionKind.FIXED, self.sequences, "sequences")
        return tuple(
            replace(each, dimensions=tuple(count if size == _BATCH else size for size in each.dimensions))
            for each in super().tables
        )

    def kinds(self, node: Leaf) -> frozenset[DimensionKind]:
        return self.varying(node) & {DimensionKind.HEADS}

    def replaced(self, node: Expression) -> Expression | None:
        return Coordinate(Side.QUERY, SEQUENCES[Side.QUERY]) if isinstance(node, Batch) else super().replaced(node)

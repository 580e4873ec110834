"""A mask over other tokens than its own: some queries against its first keys, or many sequences one behind the other.

Every coordinate that pairs read becomes an input, with the values of the tokens that are there. Whatever serves masks
with inputs serves these, and one mask serves all calls of equal lengths.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property
from typing import NamedTuple

from maskdsl.ir.expressions import PAIR, Batch, Coordinate, Expression, InSpace, Side, apply, rebuild
from maskdsl.ir.facts.ranges import INT32, Range, mask_leaf
from maskdsl.ir.facts.reads import Reads, reads
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import (
    Axis,
    CoordinateDefinition,
    Dimension,
    DimensionKind,
    Given,
    Input,
    MaskIR,
    Sequence,
    Space,
)
from maskdsl.ir.ops import Op, Type
from maskdsl.ir.simplify import simplify

_BATCH = Dimension(DimensionKind.BATCH, None, "batch")
Leaf = Coordinate | InSpace


class Origin(Enum):
    """Where the values come from that the tokens of the whole mask have for a leaf."""

    GIVEN = auto()
    """An input's, wherever tokens have it."""
    FIXED = auto()
    """No input decides them."""
    COMPUTED = auto()


class Value(NamedTuple):
    """What pairs read of their tokens, and the input of the gathered mask that holds it."""

    leaf: Leaf
    declared: Input
    origin: Origin


@dataclass(frozen=True)
class Gathered(ABC):
    """So many queries and keys from anywhere in a mask. Names of the inputs of `mask` that are its own hold a dot."""

    whole: MaskIR
    queries: int
    keys: int

    @property
    @abstractmethod
    def condition(self) -> Expression:
        """What holds for pairs that attend, beside the relation."""

    @property
    @abstractmethod
    def conditions(self) -> tuple[Input, ...]:
        """The inputs that the condition reads, one value a token."""

    @abstractmethod
    def kinds(self, node: Leaf) -> frozenset[DimensionKind]:
        """The dimensions of a leaf's values, beside that of tokens."""

    @cached_property
    def mask(self) -> MaskIR:
        moved = self.whole.mapped(self.moved)
        return replace(
            moved,
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
        """What pairs read."""
        return reads(*self.whole.pair_expressions)

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """What pairs read of their tokens."""
        return tuple(leaf for leaf in self.reads.leaves if isinstance(leaf, Coordinate | InSpace))

    @property
    def tables(self) -> tuple[Input, ...]:
        """Inputs that pairs read by index."""
        return self.whole.named(self.reads.inputs)

    def name(self, node: Leaf) -> str:
        """What the input is called that holds a leaf's values."""
        return f"{node.side.letter}.{node.name if isinstance(node, Coordinate) else f'in {node.space}'}"

    def moved(self, expression: Expression) -> Expression:
        return rebuild(expression, self.replaced)

    def replaced(self, node: Expression) -> Expression | None:
        if isinstance(node, Coordinate | InSpace):
            return Coordinate(node.side, self.name(node), node.type)
        return None

    def sequence(self, side: Side) -> Sequence:
        types = {self.name(node): node.type for node in self.leaves if node.side is side}
        types |= {each.name: each.type for each in self.conditions if each.name.startswith(side.letter)}
        word = side.plural
        return Sequence(
            (Space(word, (Axis(word, self.length(side)),)),),
            tuple(CoordinateDefinition(name, kind, ((word, Given(name)),)) for name, kind in types.items()),
        )

    @cached_property
    def values(self) -> "tuple[Value, ...]":
        return tuple(Value(node, self.declared(node), self.origin(node)) for node in self.leaves)

    def origin(self, node: Leaf) -> Origin:
        definition = self.tokens(node).definition(node.name) if isinstance(node, Coordinate) else None
        if definition is not None and all(isinstance(source, Given) for _, source in definition.sources):
            return Origin.GIVEN
        behind = trace(self.tokens(node), [node])
        return Origin.COMPUTED if behind.inputs or behind.reads.batch else Origin.FIXED

    def length(self, side: Side) -> int:
        return self.queries if side is Side.QUERY else self.keys

    def declared(self, node: Leaf) -> Input:
        kinds = self.kinds(node)
        dimensions = (_BATCH, Dimension(DimensionKind.HEADS, self.whole.heads, "heads"))
        own = tuple(each for each in dimensions if each.kind in kinds)
        return Input(self.name(node), node.type, (*own, self.token_dimension(node.side)), self.reach(node))

    @cached_property
    def range_of(self) -> Callable[[Leaf], Range]:
        return mask_leaf(self.whole)

    def reach(self, node: Leaf) -> tuple[int, int] | None:
        """What the integers of a leaf lie between, where that is beyond 32 bits."""
        if not isinstance(node, Coordinate) or node.type is not Type.INT:
            return None
        low, high = self.range_of(node)
        return None if low in INT32 and high in INT32 else (low, high)

    def token_dimension(self, side: Side) -> Dimension:
        return Dimension(DimensionKind.TOKENS, self.length(side), side.plural)

    def varying(self, node: Leaf) -> frozenset[DimensionKind]:
        """Whether a leaf's values depend on the batch entry or the head."""
        return trace(self.tokens(node), [node]).varies(self.whole)

    def tokens(self, node: Leaf) -> Sequence:
        return self.whole.sequences[node.side]


PRESENT = "k.present"
"""Which keys each batch entry has: bool[batch, keys]."""


@dataclass(frozen=True)
class Chunk(Gathered):
    """Queries that stand side by side, elsewhere in each batch entry, against the first keys."""

    @property
    def condition(self) -> Expression:
        return Coordinate(Side.KEY, PRESENT, Type.BOOL)

    @property
    def conditions(self) -> tuple[Input, ...]:
        return (Input(PRESENT, Type.BOOL, (_BATCH, self.token_dimension(Side.KEY))),)

    def kinds(self, node: Leaf) -> frozenset[DimensionKind]:
        return self.varying(node) | ({DimensionKind.BATCH} if node.side is Side.QUERY else set())


SEQUENCES = {side: f"{side.letter}.sequence" for side in PAIR}
"""Which sequence a token is of: int[queries] and int[keys]."""


@dataclass(frozen=True)
class Packed(Gathered):
    """Sequences one behind the other, each the first tokens of the pattern: what is a batch entry there."""

    sequences: int

    @property
    def condition(self) -> Expression:
        return apply(Op.EQUAL, *(Coordinate(side, name) for side, name in SEQUENCES.items()))

    @property
    def conditions(self) -> tuple[Input, ...]:
        return tuple(Input(name, Type.INT, (self.token_dimension(side),)) for side, name in SEQUENCES.items())

    @property
    def tables(self) -> tuple[Input, ...]:
        """One entry after the other."""
        count = Dimension(DimensionKind.FIXED, self.sequences, "sequences")
        return tuple(
            replace(each, dimensions=tuple(count if part == _BATCH else part for part in each.dimensions))
            for each in super().tables
        )

    def kinds(self, node: Leaf) -> frozenset[DimensionKind]:
        return self.varying(node) & {DimensionKind.HEADS}

    def replaced(self, node: Expression) -> Expression | None:
        return Coordinate(Side.QUERY, SEQUENCES[Side.QUERY]) if isinstance(node, Batch) else super().replaced(node)

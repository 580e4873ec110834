"""What an expression reads: leaves and tables. Cached by the shape of the expression."""

from collections.abc import Iterator
from functools import cached_property
from weakref import WeakKeyDictionary

from maskdsl.base.records import dataclass
from maskdsl.ir.expressions import (
    Apply,
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Leaf,
    Read,
    Score,
    Shape,
    Side,
    children,
    walk,
)


@dataclass(frozen=True)
class Reads:
    """The leaves and inputs that an expression reads: each once, in order of first occurrence."""

    leaves: tuple[Leaf, ...] = ()
    inputs: tuple[str, ...] = ()
    """Names of the inputs that are read by index."""

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        """The coordinates among the leaves."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Coordinate))

    @cached_property
    def spaces(self) -> tuple[InSpace, ...]:
        """The tests of membership in a space among the leaves."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, InSpace))

    @property
    def head(self) -> bool:
        """Whether it reads the head's index."""
        return Head() in self.leaves

    @property
    def batch(self) -> bool:
        """Whether it reads the batch entry's index."""
        return Batch() in self.leaves

    @property
    def score(self) -> bool:
        """Whether it reads the score."""
        return Score() in self.leaves

    @property
    def is_of_pair(self) -> bool:
        """Whether it reads both tokens of the pair."""
        return bool(self.names(Side.QUERY) and self.names(Side.KEY))

    def of(self, side: Side) -> tuple[Coordinate, ...]:
        """The coordinates of `side`."""
        return tuple(each for each in self.coordinates if each.side is side)

    def coordinate_names(self, side: Side) -> tuple[str, ...]:
        """Names of the coordinates of `side`, sorted."""
        return tuple(sorted({each.name for each in self.of(side)}))

    def names(self, side: Side) -> tuple[str, ...]:
        """Names of the coordinates needed of `side`'s tokens, sorted; a test of membership in a space needs `i`."""
        inside = {"i" for each in self.spaces if each.side is side}
        return tuple(sorted(inside.union(self.coordinate_names(side))))


def reads(*expressions: Expression) -> Reads:
    """What these expressions read together."""
    each_reads = [_of(each) for each in expressions]
    return each_reads[0] if len(each_reads) == 1 else _joined(each_reads)


def elements(expression: Expression, name: str) -> Iterator[Read]:
    """Yields the reads of the input `name` by index."""
    return (node for node in walk(expression) if isinstance(node, Read) and node.input == name)


def reads_lists(expression: Expression) -> bool:
    """Whether it reads a sparse input."""
    return any(isinstance(node, Read) and node.sparse for node in walk(expression))


_NOTHING = Reads()
_KNOWN: WeakKeyDictionary[Shape, Reads] = WeakKeyDictionary()
"""Of nodes with operands; an entry lives as long as a node of its shape."""


def _of(expression: Expression) -> Reads:
    match expression:
        case Constant():
            return _NOTHING
        case Apply() | Read():
            if expression.shape not in _KNOWN:
                _remember(expression)
            return _KNOWN[expression.shape]
        case _:
            return Reads((expression,))


def _remember(expression: Apply | Read) -> None:
    """Fills the cache bottom-up. Iterates, as expressions may be deeper than Python's recursion limit."""
    pending = [expression]
    while pending:
        node = pending[-1]
        missing = [each for each in children(node) if isinstance(each, Apply | Read) and each.shape not in _KNOWN]
        if missing:
            pending += missing
            continue
        pending.pop()
        if node.shape not in _KNOWN:
            direct = Reads(inputs=(node.input,)) if isinstance(node, Read) else _NOTHING
            _KNOWN[node.shape] = _joined([direct, *map(_of, children(node))])


def _joined(several: list[Reads]) -> Reads:
    leaves = dict.fromkeys(leaf for each in several for leaf in each.leaves)
    inputs = dict.fromkeys(name for each in several for name in each.inputs)
    return Reads(tuple(leaves), tuple(inputs))

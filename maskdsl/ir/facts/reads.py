"""What the value of an expression depends on: found once for each, however often it is asked."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from weakref import WeakKeyDictionary

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
    """Each once, in the order in which they are first written."""

    leaves: tuple[Leaf, ...] = ()
    inputs: tuple[str, ...] = ()
    """Names of those that are read by index."""

    @cached_property
    def coordinates(self) -> tuple[Coordinate, ...]:
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, Coordinate))

    @cached_property
    def spaces(self) -> tuple[InSpace, ...]:
        """What asks whether a token is of a space."""
        return tuple(leaf for leaf in self.leaves if isinstance(leaf, InSpace))

    @property
    def head(self) -> bool:
        return Head() in self.leaves

    @property
    def batch(self) -> bool:
        return Batch() in self.leaves

    @property
    def score(self) -> bool:
        return Score() in self.leaves

    @property
    def is_of_pair(self) -> bool:
        """Both tokens have a say."""
        return bool(self.names(Side.QUERY) and self.names(Side.KEY))

    def of(self, side: Side) -> tuple[Coordinate, ...]:
        """The coordinates of one side."""
        return tuple(each for each in self.coordinates if each.side is side)

    def coordinate_names(self, side: Side) -> tuple[str, ...]:
        """Those of one side, sorted."""
        return tuple(sorted({each.name for each in self.of(side)}))

    def names(self, side: Side) -> tuple[str, ...]:
        """What has to be known of one side's tokens, sorted: to ask for a space is to read `i`."""
        inside = {"i" for each in self.spaces if each.side is side}
        return tuple(sorted(inside.union(self.coordinate_names(side))))


def reads(*expressions: Expression) -> Reads:
    """Of all these together."""
    found = [_of(each) for each in expressions]
    return found[0] if len(found) == 1 else _joined(found)


def elements(expression: Expression, name: str) -> Iterator[Read]:
    """Where an input is read by index."""
    return (node for node in walk(expression) if isinstance(node, Read) and node.input == name)


_NOTHING = Reads()
_KNOWN: WeakKeyDictionary[Shape, Reads] = WeakKeyDictionary()
"""Of nodes that have operands, as long as one of their shape is there."""


def _of(expression: Expression) -> Reads:
    match expression:
        case Constant():
            return _NOTHING
        case Apply() | Read():
            if expression.shape not in _KNOWN:
                _find(expression)
            return _KNOWN[expression.shape]
        case _:
            return Reads((expression,))


def _find(expression: Apply | Read) -> None:
    """Operands come first: what is shared is joined once, and nothing recurses, however deep it is."""
    pending = [expression]
    while pending:
        node = pending[-1]
        parts = [part for part in children(node) if isinstance(part, Apply | Read) and part.shape not in _KNOWN]
        if parts:
            pending += parts
            continue
        pending.pop()
        if node.shape not in _KNOWN:
            own = Reads(inputs=(node.input,)) if isinstance(node, Read) else _NOTHING
            _KNOWN[node.shape] = _joined([own, *map(_of, children(node))])


def _joined(found: list[Reads]) -> Reads:
    leaves = dict.fromkeys(leaf for each in found for leaf in each.leaves)
    inputs = dict.fromkeys(name for each in found for name in each.inputs)
    return Reads(tuple(leaves), tuple(inputs))

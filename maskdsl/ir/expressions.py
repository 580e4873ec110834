"""Typed expressions over one pair of tokens (or over one token, in coordinates and orders). Frozen, hashable data."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from functools import partial
from itertools import chain, count
from threading import Lock
from typing import TypeVar, assert_never
from weakref import WeakValueDictionary

from maskdsl.base.source import Span
from maskdsl.ir.ops import Op, Type, result_type

Value = TypeVar("Value")


class Side(StrEnum):
    """Whose coordinate is read."""

    QUERY = auto()
    KEY = auto()
    TOKEN = auto()  # the one token of a coordinate's or an order's expression

    @property
    def letter(self) -> str:
        """What expressions over a pair call its token."""
        return self.value[0]

    @property
    def plural(self) -> str:
        """All tokens of the side."""
        return {Side.QUERY: "queries", Side.KEY: "keys", Side.TOKEN: "tokens"}[self]


PAIR = (Side.QUERY, Side.KEY)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpressionNode:
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Constant(ExpressionNode):
    value: int | float | bool

    @property
    def type(self) -> Type:
        match self.value:
            case bool():
                return Type.BOOL
            case int():
                return Type.INT
            case float():
                return Type.FLOAT
            case _:
                assert_never(self.value)

    # `Constant(1)`, `Constant(1.0)` and `Constant(True)` are three values, which Python would call equal.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.type is other.type and self.value == other.value

    def __hash__(self) -> int:
        return hash((self.type, self.value))


@dataclass(frozen=True, slots=True)
class Coordinate(ExpressionNode):
    """`q.name`, `k.name`, or `name` of the token itself. `i` is the position in the sequence."""

    side: Side
    name: str
    type: Type = Type.INT


@dataclass(frozen=True, slots=True)
class InSpace(ExpressionNode):
    """The token belongs to the space (declared positions `offset` to `offset + size` of its sequence)."""

    side: Side
    space: str
    type: Type = Type.BOOL


@dataclass(frozen=True, slots=True)
class Head(ExpressionNode):
    """The query head's index."""

    type: Type = Type.INT


@dataclass(frozen=True, slots=True)
class Batch(ExpressionNode):
    """The batch entry's index."""

    type: Type = Type.INT


@dataclass(frozen=True, slots=True)
class Score(ExpressionNode):
    """The score so far, `s`; only in scores."""

    type: Type = Type.FLOAT


class Shape:
    """What equal expressions have in common, be they written twice: one object, and a number that no other has.

    So comparing two expressions, and hashing one, takes no longer for large ones. Otherwise both would walk the whole
    expression at every look into a dictionary, and what is shared again each time that it is met.
    """

    __slots__ = ("__weakref__", "number")

    def __init__(self) -> None:
        self.number = next(_NUMBERS)


_NUMBERS = count()
_SHAPES: WeakValueDictionary[tuple[object, ...], Shape] = WeakValueDictionary()
_LOCK = Lock()


def _shape(*parts: object) -> Shape:
    """The shape of a node that is made of these, its operands among them."""
    key = tuple(part.shape.number if isinstance(part, Compound) else part for part in parts)
    with _LOCK:
        shape = _SHAPES.get(key)
        if shape is None:
            shape = _SHAPES[key] = Shape()
        return shape


@dataclass(frozen=True, slots=True, eq=False)
class Compound(ExpressionNode):
    """A node that has operands. Like all nodes it is equal to another one that says the same elsewhere."""

    shape: Shape = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = (part if isinstance(part, tuple) else (part,) for part in self.parts)
        object.__setattr__(self, "shape", _shape(type(self), *chain.from_iterable(parts)))

    @property
    def parts(self) -> tuple[object, ...]:
        """Everything that it says: all of its fields but for its place."""
        return tuple(getattr(self, name) for name in getattr(type(self), "__match_args__"))  # noqa: B009

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), span=self.span), self.parts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compound) and self.shape is other.shape

    def __hash__(self) -> int:
        return self.shape.number


@dataclass(frozen=True, slots=True, eq=False)
class Read(Compound):
    """One element of an input that is not a coordinate: one index a dimension, each an integer."""

    input: str
    indices: tuple["Expression", ...]
    type: Type
    open: bool = False
    """A float that is NaN where an index is outside, which `analysis/indices/in_bounds.py` could not exclude
    beforehand.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Apply(Compound):
    op: Op
    arguments: tuple["Expression", ...]

    @property
    def type(self) -> Type:
        return result_type(self.op) or self.arguments[-1].type


Leaf = Coordinate | InSpace | Head | Batch | Score
Expression = Constant | Leaf | Read | Apply

TRUE = Constant(True)
FALSE = Constant(False)


def apply(op: Op, *arguments: Expression, span: Span | None = None) -> Apply:
    return Apply(op, arguments, span=span)


def children(expression: Expression) -> tuple[Expression, ...]:
    match expression:
        case Apply(arguments=parts) | Read(indices=parts):
            return parts
        case Constant() | Coordinate() | InSpace() | Head() | Batch() | Score():
            return ()
        case _:
            assert_never(expression)


def walk(expression: Expression) -> Iterator[Expression]:
    """Every node, each behind one that it is an operand of. What is shared comes once, what is written twice twice."""
    stack = [expression]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if isinstance(node, Compound):
            if id(node) in seen:
                continue
            seen.add(id(node))
        yield node
        stack.extend(reversed(children(node)))


def size(expression: Expression) -> int:
    """How many nodes it would have, were nothing shared."""
    return folded(expression, lambda node, parts: 1 + sum(parts))


def rebuild(expression: Expression, rewrite: Callable[[Expression], Expression | None]) -> Expression:
    """Rewrites bottom-up, each node once after its children. The rewrite's None means no change."""

    def rebuilt(node: Expression, parts: tuple[Expression, ...]) -> Expression:
        node = with_children(node, parts)
        changed = rewrite(node)
        return node if changed is None else changed

    return folded(expression, rebuilt)


def with_children(node: Expression, parts: tuple[Expression, ...]) -> Expression:
    """The same node with these operands."""
    match node:
        case Apply(arguments=arguments) if parts != arguments:
            return replace(node, arguments=parts)
        case Read(indices=indices) if parts != indices:
            return replace(node, indices=parts)
        case _:
            return node


def folded(expression: Expression, value: Callable[[Expression, tuple[Value, ...]], Value]) -> Value:
    """`value` of every node and the values of its operands, from the leaves up. What is shared is asked once."""
    if not isinstance(expression, Compound):
        return value(expression, ())
    uses = Counter(id(part) for node in walk(expression) for part in children(node) if isinstance(part, Compound))
    shared: dict[int, Value] = {}  # no others are kept: they may be large arrays

    def of(node: Expression) -> Value:
        if id(node) in shared:
            return shared[id(node)]
        found = value(node, tuple(map(of, children(node))))
        if uses[id(node)] > 1:
            shared[id(node)] = found
        return found

    return of(expression)


def substitute(expression: Expression, replacements: dict[Expression, Expression]) -> Expression:
    """Replaces every leaf or node that equals a key, bottom-up: `substitute(e, {Head(): Constant(3)})`."""
    return rebuild(expression, replacements.get)


def in_space(expression: Expression, space: str) -> Expression:
    """What an expression over one token is for those of a space."""
    return rebuild(expression, lambda node: Constant(node.space == space) if isinstance(node, InSpace) else None)


def of_side(expression: Expression, side: Side) -> Expression:
    """With the coordinates of one side, whose ever they were."""
    return rebuild(expression, lambda node: replace(node, side=side) if isinstance(node, Coordinate) else None)

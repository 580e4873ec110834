"""Typed expressions over a query and a key (one token in coordinates and orders). Frozen, hashable nodes."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import field, replace
from enum import StrEnum, auto
from functools import partial
from itertools import chain, count
from threading import Lock
from typing import TypeVar, assert_never
from weakref import WeakValueDictionary

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.ops import Op, Type, result_type

Value = TypeVar("Value")


class Side(StrEnum):
    """The token whose coordinate is read."""

    QUERY = auto()
    KEY = auto()
    TOKEN = auto()  # in expressions over one token: coordinates and sort keys

    @property
    def letter(self) -> str:
        """`q`, `k` or `t`: the token's name in expressions over a pair."""
        return self.value[0]

    @property
    def plural(self) -> str:
        """`queries`, `keys` or `tokens`."""
        return {Side.QUERY: "queries", Side.KEY: "keys", Side.TOKEN: "tokens"}[self]


PAIR = (Side.QUERY, Side.KEY)


@dataclass(frozen=True, kw_only=True)
class ExpressionNode:
    """A node, with the span of source that it comes from. Equality ignores the span."""

    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Constant(ExpressionNode):
    """A number or truth value; its Python type decides its type in the IR."""

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


@dataclass(frozen=True)
class Coordinate(ExpressionNode):
    """`q.name`, `k.name`, or `name` of the token itself. `i` is the position in the sequence."""

    side: Side
    name: str
    type: Type = Type.INT


@dataclass(frozen=True)
class InSpace(ExpressionNode):
    """The token belongs to the space (declared positions `offset` to `offset + size` of its sequence)."""

    side: Side
    space: str
    type: Type = Type.BOOL


@dataclass(frozen=True)
class Head(ExpressionNode):
    """The query head's index."""

    type: Type = Type.INT


@dataclass(frozen=True)
class Batch(ExpressionNode):
    """The batch entry's index."""

    type: Type = Type.INT


@dataclass(frozen=True)
class Score(ExpressionNode):
    """The score before this `score` line, `s`. Occurs only in `score` expressions."""

    type: Type = Type.FLOAT


class Shape:
    """The identity of an expression: equal expressions share one shape, which has a unique number.

    With it, comparing and hashing take constant time. Structural equality would walk the whole expression at every
    dictionary lookup, and walk shared subexpressions many times.
    """

    __slots__ = ("__weakref__", "number")

    def __init__(self) -> None:
        self.number = next(_NUMBERS)


_NUMBERS = count()
_SHAPES: WeakValueDictionary[tuple[object, ...], Shape] = WeakValueDictionary()
_LOCK = Lock()


def _shape(*fields: object) -> Shape:
    """The shape of a node with these fields; operands stand for themselves by number."""
    key = tuple(each.shape.number if isinstance(each, Compound) else each for each in fields)
    with _LOCK:
        shape = _SHAPES.get(key)
        if shape is None:
            shape = _SHAPES[key] = Shape()
        return shape


@dataclass(frozen=True, eq=False)
class Compound(ExpressionNode):
    """A node with operands. Nodes that differ only in their span are equal."""

    shape: Shape = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        fields = (each if isinstance(each, tuple) else (each,) for each in self.fields)
        object.__setattr__(self, "shape", _shape(type(self), *chain.from_iterable(fields)))

    @property
    def fields(self) -> tuple[object, ...]:
        """The values of all fields except the span."""
        return tuple(getattr(self, name) for name in getattr(type(self), "__match_args__"))  # noqa: B009

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), span=self.span), self.fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compound) and self.shape is other.shape

    def __hash__(self) -> int:
        return self.shape.number


@dataclass(frozen=True, eq=False)
class Read(Compound):
    """One element of an input that is not a coordinate, by one integer index per dimension.

    Of a sparse input it is the number of the entry that is stored there, -1 if none is: see `ir/values/entries.py`.
    """

    input: str
    indices: tuple["Expression", ...]
    type: Type
    open: bool = False
    """Whether an index may be outside the table, which `analysis/indices/in_bounds.py` could not exclude. The element
    is NaN there; only floats are open."""
    sparse: bool = False
    """Whether the input is sparse."""


@dataclass(frozen=True, eq=False)
class Apply(Compound):
    """An operator on its operands."""

    op: Op
    arguments: tuple["Expression", ...]

    @property
    def type(self) -> Type:
        node: Expression = self  # no recursion: scores of many lines are deep
        while isinstance(node, Apply):
            given = result_type(node.op)
            if given is not None:
                return given
            node = node.arguments[-1]
        return node.type


Leaf = Coordinate | InSpace | Head | Batch | Score
Expression = Constant | Leaf | Read | Apply

TRUE = Constant(True)
FALSE = Constant(False)


def apply(op: Op, *arguments: Expression, span: Span | None = None) -> Apply:
    """`Apply` with its operands as separate arguments."""
    return Apply(op, arguments, span=span)


def children(expression: Expression) -> tuple[Expression, ...]:
    """The operands of a node; none of a leaf."""
    match expression:
        case Apply(arguments=operands) | Read(indices=operands):
            return operands
        case Constant() | Coordinate() | InSpace() | Head() | Batch() | Score():
            return ()
        case _:
            assert_never(expression)


def walk(expression: Expression) -> Iterator[Expression]:
    """Yields every node, parents before operands: a shared node once, equal nodes that are not shared each."""
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
    """The number of nodes, shared ones counted once for each use."""
    return folded(expression, lambda node, sizes: 1 + sum(sizes))


def rebuild(expression: Expression, rewrite: Callable[[Expression], Expression | None]) -> Expression:
    """Rewrites bottom-up: each node once, after its operands. None from `rewrite` means no change."""

    def rebuilt(node: Expression, operands: tuple[Expression, ...]) -> Expression:
        node = with_children(node, operands)
        changed = rewrite(node)
        return node if changed is None else changed

    return folded(expression, rebuilt)


def with_children(node: Expression, operands: tuple[Expression, ...]) -> Expression:
    """The same node with these operands."""
    match node:
        case Apply(arguments=arguments) if operands != arguments:
            return replace(node, arguments=operands)
        case Read(indices=indices) if operands != indices:
            return replace(node, indices=operands)
        case _:
            return node


def folded(expression: Expression, value: Callable[[Expression, tuple[Value, ...]], Value]) -> Value:
    """Folds bottom-up: calls `value` with each node and the values of its operands, once for a shared node."""
    if not isinstance(expression, Compound):
        return value(expression, ())
    uses = Counter(id(each) for node in walk(expression) for each in children(node) if isinstance(each, Compound))
    return _folded(expression, value, uses, {})


def _folded(
    node: Expression,
    value: Callable[[Expression, tuple[Value, ...]], Value],
    uses: Counter[int],
    shared: dict[int, Value],
) -> Value:
    """As `folded`. No closure that calls itself: such a cycle would keep the values, which may be large arrays."""
    if id(node) in shared:
        return shared[id(node)]
    operands = []
    for each in children(node):  # one frame of Python's stack a level
        operands.append(_folded(each, value, uses, shared))
    result = value(node, tuple(operands))
    if uses[id(node)] > 1:  # the other values are not kept
        shared[id(node)] = result
    return result


def substitute(expression: Expression, replacements: dict[Expression, Expression]) -> Expression:
    """Replaces every leaf or node that equals a key, bottom-up: `substitute(e, {Head(): Constant(3)})`."""
    return rebuild(expression, replacements.get)


def in_space(expression: Expression, space: str) -> Expression:
    """An expression over one token, restricted to the tokens of `space`: every `InSpace` becomes a constant."""
    return rebuild(expression, lambda node: Constant(node.space == space) if isinstance(node, InSpace) else None)


def of_side(expression: Expression, side: Side) -> Expression:
    """The expression with every coordinate read from `side`."""
    return rebuild(expression, lambda node: replace(node, side=side) if isinstance(node, Coordinate) else None)

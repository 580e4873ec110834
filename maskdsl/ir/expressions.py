"""Typed expressions over one pair of tokens (or over one token, in coordinates and orders). Frozen, hashable data."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from typing import assert_never

from maskdsl.ir.ops import Op, Type, result_type
from maskdsl.source import Span


class Side(StrEnum):
    """Whose coordinate is read."""

    QUERY = auto()
    KEY = auto()
    TOKEN = auto()  # the one token of a coordinate's or an order's expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Constant(Node):
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
class Coordinate(Node):
    """`q.name`, `k.name`, or `name` of the token itself. `i` is the position in the sequence."""

    side: Side
    name: str
    type: Type = Type.INT


@dataclass(frozen=True, slots=True)
class InSpace(Node):
    """The token belongs to the space (declared positions `offset` to `offset + size` of its sequence)."""

    side: Side
    space: str
    type: Type = Type.BOOL


@dataclass(frozen=True, slots=True)
class Head(Node):
    """The query head's index."""

    type: Type = Type.INT


@dataclass(frozen=True, slots=True)
class Batch(Node):
    """The batch entry's index."""

    type: Type = Type.INT


@dataclass(frozen=True, slots=True)
class Score(Node):
    """The score so far, `s`; only in scores."""

    type: Type = Type.FLOAT


@dataclass(frozen=True, slots=True)
class Read(Node):
    """One element of an input that is not a coordinate: one index a dimension, each an integer."""

    input: str
    indices: tuple["Expression", ...]
    type: Type
    open: bool = False
    """A float that is NaN where an index is outside, which `analysis/in_bounds.py` could not exclude beforehand."""


@dataclass(frozen=True, slots=True)
class Apply(Node):
    op: Op
    arguments: tuple["Expression", ...]

    @property
    def type(self) -> Type:
        return result_type(self.op) or self.arguments[-1].type


Expression = Constant | Coordinate | InSpace | Head | Batch | Score | Read | Apply

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
    """Every node, parents before children."""
    stack = [expression]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(reversed(children(node)))


def rebuild(expression: Expression, rewrite: Callable[[Expression], Expression | None]) -> Expression:
    """Rewrites bottom-up, each node once after its children. The rewrite's None means no change."""
    match expression:
        case Apply(arguments=parts):
            new = tuple(rebuild(part, rewrite) for part in parts)
            if new != parts:
                expression = replace(expression, arguments=new)
        case Read(indices=parts):
            new = tuple(rebuild(part, rewrite) for part in parts)
            if new != parts:
                expression = replace(expression, indices=new)
        case Constant() | Coordinate() | InSpace() | Head() | Batch() | Score():
            pass
        case _:
            assert_never(expression)
    changed = rewrite(expression)
    return expression if changed is None else changed


def substitute(expression: Expression, replacements: dict[Expression, Expression]) -> Expression:
    """Replaces every leaf or node that equals a key, bottom-up: `substitute(e, {Head(): Constant(3)})`."""
    return rebuild(expression, replacements.get)

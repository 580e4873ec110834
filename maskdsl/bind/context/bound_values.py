"""The values of expressions while binding: typed terms of the IR with their static ranges, tuples, and axes."""

from collections.abc import Mapping

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span
from maskdsl.ir.expressions import Constant, Expression, Head
from maskdsl.ir.facts.ranges import Reach, constant_reach
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.ops import Type
from maskdsl.syntax import tree


@dataclass(frozen=True)
class Term:
    """A typed expression, with the range of its values, if it is an integer or a float that no input decides."""

    expression: Expression
    range: Reach = None
    size: int = 1
    """The number of nodes, counting shared ones each time."""
    depth: int = 1

    @property
    def type(self) -> Type:
        return self.expression.type

    @property
    def constant(self) -> int | float | bool | None:
        return self.expression.value if isinstance(self.expression, Constant) else None


@dataclass(frozen=True)
class TupleValue:
    """`(7, 7)`: a tuple of known integers."""

    items: tuple[int, ...]


@dataclass(frozen=True)
class AxisValue:
    """The name of a coordinate, as the value of a parameter of type `axis`."""

    name: str


@dataclass(frozen=True)
class AxesValue:
    """The names of several coordinates; None means all axes of the space at hand."""

    names: tuple[str, ...] | None


@dataclass(frozen=True)
class Bad:
    """The value of a wrong expression, which was reported; uses of it are not reported again."""


@dataclass(frozen=True)
class Abbreviation:
    """A `let` that is elaborated at each use, with what is known there about the tokens."""

    statement: tree.LetStatement
    names: Mapping[str, "Value"]


BAD = Bad()

Value = Term | TupleValue | AxisValue | AxesValue | Bad | Abbreviation


def constant(value: int | float | bool, span: Span | None = None) -> Term:
    """A constant term."""
    number = Constant(value, span=span)
    return Term(number, constant_reach(number))


def why_unknown(value: Value) -> str:
    """Why a value is not an integer that is known when the pattern is bound, for messages."""
    if isinstance(value, Term) and value.type is Type.INT:
        return depends_on(value)
    return f"this is {describe(value)}, not an integer"


def depends_on(value: Term) -> str:
    """What decides a value that is not known when the pattern is bound, for messages."""
    read = reads(value.expression)
    if read.coordinates or read.spaces:
        return "this depends on the tokens"
    if read.inputs:
        return "this depends on an input"
    return f"this depends on the {'batch' if read.batch else 'head'}"


def is_known(value: Term) -> bool:
    """Whether a value is an integer that depends on nothing, or on the head alone."""
    known = reads(value.expression)
    return value.type is Type.INT and known.leaves in ((), (Head(),)) and not known.inputs


def describe(value: Value) -> str:
    """The kind of a value, for messages."""
    match value:
        case Term():
            return {Type.INT: "an integer", Type.FLOAT: "a float", Type.BOOL: "a boolean"}[value.type]
        case TupleValue():
            return "a tuple"
        case AxisValue():
            return "an axis"
        case AxesValue():
            return "axes"
        case Bad() | Abbreviation():
            return "an expression"

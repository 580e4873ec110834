"""The syntax tree: the structure of a text, before names and types have a meaning. Imports `source` only.

Every node has a span, which equality ignores: `parse(format(tree)) == tree`.
"""

from dataclasses import field

from maskdsl.base.records import dataclass
from maskdsl.base.source import Span


@dataclass(frozen=True, kw_only=True)
class Node:
    """The base of all nodes."""

    span: Span = field(compare=False, repr=False)


# Expressions. One grammar serves integers, floats, booleans, relations, selectors and the layers of a stack.


@dataclass(frozen=True)
class Integer(Node):
    value: int


@dataclass(frozen=True)
class Float(Node):
    value: float


@dataclass(frozen=True)
class Boolean(Node):
    """`True` or `False`."""

    value: bool


@dataclass(frozen=True)
class String(Node):
    value: str


@dataclass(frozen=True)
class Name(Node):
    """A bare name, the reserved ones included: `q`, `k`, `head`, `batch`, `all`, `s`, ..."""

    id: str


@dataclass(frozen=True)
class Attribute(Node):
    """`q.y`, `image.z`."""

    base: Name
    name: Name


@dataclass(frozen=True)
class Tuple(Node):
    """`(7, 7)`, `(7,)`."""

    items: tuple["Expression", ...]


@dataclass(frozen=True)
class Unary(Node):
    operator: str
    """`-`, `+` or `not`."""
    operand: "Expression"


@dataclass(frozen=True)
class Binary(Node):
    operator: str
    """`+ - * / // % ** and or`."""
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True)
class Comparison(Node):
    """A chain, `0 <= q - k < size`: one more operand than operators (`== != < <= > >=`)."""

    operands: tuple["Expression", ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Conditional(Node):
    """`then if condition else otherwise`."""

    then: "Expression"
    condition: "Expression"
    otherwise: "Expression"


@dataclass(frozen=True)
class Argument(Node):
    """`3`, `axis = y`, or `k by chunk`: a vector of each token, gathered by a coordinate."""

    name: Name | None
    value: "Expression"
    by: "Expression | None" = None


@dataclass(frozen=True)
class Call(Node):
    function: Name
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Index(Node):
    """`table[head, q.y - k.y + 6]`, `kernel[0]`."""

    base: Name
    indices: tuple["Expression", ...]


@dataclass(frozen=True)
class HalfOpenRange(Node):
    """`0 .. 20`, the end excluded; only after `in` of a quantifier."""

    low: "Expression"
    high: "Expression"


@dataclass(frozen=True)
class Quantifier(Node):
    """`any(body for variable in domain)`, `all` and `sum` likewise; the domain is a range, coordinates or `all`."""

    kind: str
    body: "Expression"
    variable: Name
    domain: "Expression"


@dataclass(frozen=True)
class Arrow(Node):
    """`query -> key`: names of spaces, or `all`."""

    query: Name
    key: Name


@dataclass(frozen=True)
class Where(Node):
    relation: "Expression"
    condition: "Expression"


Expression = (
    Integer
    | Float
    | Boolean
    | String
    | Name
    | Attribute
    | Tuple
    | Unary
    | Binary
    | Comparison
    | Conditional
    | Call
    | Index
    | HalfOpenRange
    | Quantifier
    | Arrow
    | Where
)


# Statements of a pattern.


@dataclass(frozen=True)
class AxisDeclaration(Node):
    """`y = h`; or a length without a name, if the space has one axis."""

    name: Name | None
    length: Expression


@dataclass(frozen=True)
class SpaceStatement(Node):
    name: Name
    axes: tuple[AxisDeclaration, ...]


@dataclass(frozen=True)
class PooledSpaceStatement(Node):
    """`space coarse = mean(image, (4, 4))`, or `space groups = mean(tokens by cluster, 64)`."""

    name: Name
    pooling: Name
    source: Name
    by: Expression | None
    """The coordinate whose equal values are pooled; None for boxes."""
    size: Expression | None
    """The sides of a box; with `by`, how many values there are, or None if the coordinate tells."""


@dataclass(frozen=True)
class SequenceStatement(Node):
    kind: str
    """`tokens`, `queries` or `keys`."""
    spaces: tuple[Name, ...]


@dataclass(frozen=True)
class InputStatement(Node):
    """`input document: int[tokens]`, `input gain: float`."""

    name: Name
    type: Name
    dimensions: tuple[Expression, ...]


@dataclass(frozen=True)
class CoordinateStatement(Node):
    space: Name | None
    name: Name
    value: Expression


@dataclass(frozen=True)
class LetStatement(Node):
    name: Name
    value: Expression


@dataclass(frozen=True)
class RouteStatement(Node):
    name: Name
    selector: Expression
    candidates: Expression | None
    always: Expression | None


@dataclass(frozen=True)
class AttendStatement(Node):
    relation: Expression


@dataclass(frozen=True)
class RequireStatement(Node):
    relation: Expression


@dataclass(frozen=True)
class ScoreStatement(Node):
    value: Expression


@dataclass(frozen=True)
class ScaleStatement(Node):
    value: Expression


@dataclass(frozen=True)
class WeightStatement(Node):
    value: Expression


@dataclass(frozen=True)
class ValueStatement(Node):
    value: Expression


@dataclass(frozen=True)
class SinkStatement(Node):
    value: Expression


@dataclass(frozen=True)
class NormalizeStatement(Node):
    """`normalize none`, `normalize softmax by k`."""

    function: str
    by: str | None

    @property
    def text(self) -> str:
        """What is written behind `normalize`."""
        return self.function if self.by is None else f"{self.function} by {self.by}"


@dataclass(frozen=True)
class OrderStatement(Node):
    space: Name | None
    keys: tuple[Expression, ...]


@dataclass(frozen=True)
class AutoOrderStatement(Node):
    """`order auto`, `order image auto`: an order that the analysis chooses."""

    space: Name | None


@dataclass(frozen=True)
class AssertStatement(Node):
    condition: Expression
    message: String


@dataclass(frozen=True)
class BranchStatement(Node):
    """`branch name { ... }`, or with a variable `branch name for o in 0 .. 9 { ... }`: one attention of several."""

    name: Name
    variable: Name | None
    domain: Expression | None
    """The values of the variable; None without one."""
    statements: tuple["Statement", ...]


Statement = (
    SpaceStatement
    | PooledSpaceStatement
    | SequenceStatement
    | InputStatement
    | CoordinateStatement
    | LetStatement
    | RouteStatement
    | AttendStatement
    | RequireStatement
    | ScoreStatement
    | ScaleStatement
    | WeightStatement
    | ValueStatement
    | SinkStatement
    | NormalizeStatement
    | OrderStatement
    | AutoOrderStatement
    | AssertStatement
    | BranchStatement
)


# Declarations of a file.


@dataclass(frozen=True)
class Parameter(Node):
    name: Name
    type: Name | None
    default: Expression | None


@dataclass(frozen=True)
class UseDeclaration(Node):
    path: String


@dataclass(frozen=True)
class MacroDeclaration(Node):
    """`def name(parameters) = body`, with the `let`s of a body in braces."""

    name: Name
    parameters: tuple[Parameter, ...]
    lets: tuple[LetStatement, ...]
    body: Expression
    doc: str = ""


@dataclass(frozen=True)
class PatternDeclaration(Node):
    name: Name
    parameters: tuple[Parameter, ...]
    statements: tuple[Statement, ...]
    doc: str = ""


@dataclass(frozen=True)
class StackDeclaration(Node):
    """`stack gemma3(n) = 5 * packed_local(n, 1024) + dense(n)`."""

    name: Name
    parameters: tuple[Parameter, ...]
    layers: Expression
    doc: str = ""


Declaration = UseDeclaration | MacroDeclaration | PatternDeclaration | StackDeclaration


@dataclass(frozen=True)
class Comment(Node):
    """`# text` or `## text`, as written; kept for the formatter."""

    text: str


@dataclass(frozen=True)
class File(Node):
    declarations: tuple[Declaration, ...]
    comments: tuple[Comment, ...] = field(default=(), compare=False)

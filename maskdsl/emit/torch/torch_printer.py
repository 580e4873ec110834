"""IR expressions to torch, as the statements of a generated function. Imports `ir` and `plan`.

Integers are int64 tensors. Relations compute floats in float64; scores compute in the type of `s`, and in float64 what
they compare, as it is, and what they round to integers.
"""

from collections.abc import Callable, Iterable, Mapping
from math import inf, isfinite
from typing import assert_never

from maskdsl.emit.plan import unused
from maskdsl.emit.statement_printer import AND, ATOM, COMPARISON, INFIX, SUM, UNARY, Printer, literal
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import Apply, Batch, Constant, Coordinate, Expression, Head, InSpace, Read, Score, Side
from maskdsl.ir.ops import COMPARISONS, OPERATORS, ROUNDINGS, Op, Type

_PREFIX = {Op.NEGATE: "-", Op.NOT: "~"}
_LARGEST_SINGLE = (2 - 2**-23) * 2.0**127
"""The largest float32, the narrowest type of scores."""


class TorchPrinter(Printer):
    """Collects the statements of one function. `relation` says that floats are float64, not the type of `s`."""

    def __init__(
        self,
        coordinates: Callable[[Side, str], str],
        inputs: Mapping[str, str],
        sequences: Mapping[Side, Sequence],
        relation: bool,
        taken: Iterable[str] = (),
    ) -> None:
        self.coordinates = coordinates
        self.inputs = inputs
        self.sequences = sequences
        super().__init__({*taken, *inputs.values(), "s", "head", "batch", "torch", "result"}, relation)

    @property
    def cast(self) -> str:
        """The call that gives a tensor the type of floats."""
        return ".double()" if self.double else ".to(s.dtype)"

    def filled(self, value: Constant) -> str:
        """The text of a score that is the same for all pairs."""
        return f"torch.full_like(s, {self.fresh(value)[0]})"

    def fresh(self, expression: Expression) -> tuple[str, int]:
        match expression:
            case Constant(float(value)) if not self.double and _LARGEST_SINGLE < abs(value) < inf:
                return f"rounded({value!r}, s.dtype)", ATOM
            case Constant(value):
                return _constant(value)
            case Coordinate(side, name, kind):
                text = self.coordinates(side, name)
                return text + (self.cast if kind is Type.FLOAT else ""), ATOM
            case InSpace(side, space):
                return self.membership(side, space), AND
            case Head():
                return "head", ATOM
            case Batch():
                return "batch", ATOM
            case Score():
                return "s.double()" if self.double else "s", ATOM
            case Read(name, indices, kind):
                arguments = ", ".join([self.inputs[name], *(self.operand(index, COMPARISON) for index in indices)])
                function = "find_entry" if expression.sparse else "read_open" if expression.open else "read"
                return f"{function}({arguments})" + (self.cast if kind is Type.FLOAT else ""), ATOM
            case Apply(op, arguments):
                return self.apply(op, arguments)
            case _:
                assert_never(expression)

    def membership(self, side: Side, space: str) -> str:
        """Whether the declared position is in a space."""
        sequence = self.sequences[side]
        index = [each.name for each in sequence.spaces].index(space)
        start, size = sequence.offsets[index], sequence.spaces[index].size
        position = self.coordinates(side, "i")
        return f"({position} >= {start}) & ({position} < {start + size})"

    def apply(self, op: Op, arguments: tuple[Expression, ...]) -> tuple[str, int]:
        if op in COMPARISONS and arguments[0].type is Type.FLOAT and not self.double:
            sign, precedence, _, _ = INFIX[op]
            left, right = (self.in_double(each) for each in arguments)
            return f"{left} {sign} {right}", precedence
        if op in INFIX:
            sign, precedence, left_side, right_side = INFIX[op]
            texts = [self.operand(each, right_side if n else left_side) for n, each in enumerate(arguments)]
            if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO) and not _is_never_zero(arguments[1]):
                texts[1] = f"nonzero({self.operand(arguments[1], COMPARISON)})"
            return f" {sign} ".join(texts), precedence
        if op in _PREFIX:
            return _PREFIX[op] + self.operand(arguments[0], UNARY), UNARY
        if op is Op.SHARE_BIT:
            return f"({' & '.join(self.operand(each, SUM) for each in arguments)}) != 0", COMPARISON
        if op is Op.TO_FLOAT:
            return self.operand(arguments[0], ATOM) + self.cast, ATOM
        function = OPERATORS[op].torch
        if op in ROUNDINGS:
            with self.in_float64():
                return f"integers({self.operand(arguments[0], ATOM)}{function}())", ATOM
        if function.startswith("."):
            return f"{self.operand(arguments[0], ATOM)}{function}()", ATOM
        if op in (Op.MINIMUM, Op.MAXIMUM) and any(isinstance(each, Constant) for each in arguments):
            return self.clamp(op, arguments), ATOM
        if op is Op.SELECT and all(isinstance(each, Constant) for each in arguments[1:]):
            return self.select_constants(arguments), ATOM
        return f"{function}({', '.join(self.operand(each, COMPARISON) for each in arguments)})", ATOM

    def in_double(self, expression: Expression) -> str:
        if isinstance(expression, Constant):
            return _constant(expression.value)[0]
        return f"{self.operand(expression, ATOM)}.double()"

    def clamp(self, op: Op, arguments: tuple[Expression, ...]) -> str:
        first, second = arguments
        if isinstance(first, Constant):
            first, second = second, first
        bound = "max" if op is Op.MINIMUM else "min"
        return f"{self.operand(first, ATOM)}.clamp({bound}={self.operand(second, COMPARISON)})"

    def select_constants(self, arguments: tuple[Expression, ...]) -> str:
        """`torch.where` of two numbers, of the right type: of two Python floats it would be torch's default type."""
        condition, then, otherwise = arguments
        if (then, otherwise) == (Constant(1), Constant(0)):
            return f"{self.operand(condition, ATOM)}.long()"
        texts = [self.operand(each, COMPARISON) for each in (condition, then, otherwise)]
        if then.type is not Type.FLOAT:
            return f"torch.where({', '.join(texts)})"
        kind = "torch.float64" if self.double else "s.dtype"
        name = unused("condition", self.taken)
        self.taken.add(name)
        self.lines.append(f"{name} = {texts[0]}")
        return f"torch.full_like({name}, {texts[2]}, dtype={kind}).masked_fill({name}, {texts[1]})"


def _constant(value: int | float | bool) -> tuple[str, int]:
    match value:
        case float() if not isfinite(value):
            return literal(value), ATOM
        case bool():
            return repr(value), ATOM
        case _:
            return repr(value), ATOM if value >= 0 and not repr(value).startswith("-") else UNARY


def _is_never_zero(divisor: Expression) -> bool:
    """Whether a divisor is never zero, whatever it reads."""
    match divisor:
        case Constant(value):
            return value != 0
        case Apply(Op.MAXIMUM, operands):
            return any(isinstance(each, Constant) and each.value > 0 for each in operands)
        case _:
            return False

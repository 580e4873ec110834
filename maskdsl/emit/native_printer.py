"""Expressions between terms to C, as statements over vectors: their operators are functions of `native_functions.c`."""

from collections.abc import Iterable, Mapping

from maskdsl.emit.skeleton import read_c, words_of
from maskdsl.emit.statement_printer import ATOM, COMPARISON, INFIX, UNARY, Printer
from maskdsl.ir.expressions import Apply, Constant, Expression, Read, Score
from maskdsl.ir.ops import OPERATORS, Op, Type

_LITERALS = (0.0, 0.5, 1.0, 2.0)
"""Numbers that texts hold, and their negatives. Others are arguments of a call."""
_LARGEST_POWER = 64
"""The largest whole exponent that is a product; others are computed number by number."""
_LOGIC = {Op.AND: " & ", Op.OR: " | "}


class NativePrinter(Printer):
    """Collects the statements of one function. Leaves are `s`, the product, and the names of terms."""

    def __init__(self, terms: Mapping[Read, str], numbers: dict[float, int]) -> None:
        super().__init__({*words_of(read_c("native") + read_c("native_functions")), *terms.values()}, double=False)
        self.terms, self.numbers = terms, numbers

    def write(self, start: str, expression: Expression, text: str) -> None:
        """Adds the statement of a variable."""
        self.lines.append(f"const {'ints' if expression.type is Type.BOOL else 'vec'} {start}{text};")

    def results(self, expressions: Iterable[tuple[str, Expression]]) -> None:
        """Adds statements that begin so: what these have in common is computed once."""
        pairs = list(expressions)
        self.expect(*(each for _, each in pairs))
        self.lines += [f"{start}{self.print(each)[0]};" for start, each in pairs]

    def filled(self, value: Constant) -> str:
        return self.fresh(value)[0]

    def fresh(self, expression: Expression) -> tuple[str, int]:
        match expression:
            case Constant(bool(value)):
                return f"splat_int({-int(value)})", ATOM
            case Constant(value):
                return f"splat({self.number(float(value))})", ATOM
            case Score():
                return "s", ATOM
            case Read():
                return self.terms[expression], ATOM
            case Apply(Op.POWER, (base, Constant(value))):
                if float(value).is_integer() and abs(value) <= _LARGEST_POWER:
                    return f"whole_power({self.print(base)[0]}, {int(value)})", ATOM
                return f"power({self.print(base)[0]}, {self.number(float(value))})", ATOM
            case Apply(Op.AND | Op.OR as op, operands):
                return _LOGIC[op].join(self.operand(each, ATOM) for each in operands), COMPARISON
            case Apply(Op.NOT, (operand,)):
                return f"~{self.operand(operand, ATOM)}", UNARY
            case Apply(Op.NEGATE, (operand,)):
                return f"-{self.operand(operand, ATOM)}", UNARY
            case Apply(op, operands) if op in INFIX:
                sign, precedence, left, right = INFIX[op]
                texts = [self.operand(each, side) for each, side in zip(operands, (left, right), strict=True)]
                return f" {sign} ".join(texts), precedence
            case Apply(op, operands):
                return f"{OPERATORS[op].c}({', '.join(self.print(each)[0] for each in operands)})", ATOM
            case _:
                raise AssertionError(f"{expression} is no arithmetic of floats")

    def number(self, value: float) -> str:
        """The text of a number: of most, the argument that it is."""
        if abs(value) in _LITERALS:
            return f"{value!r}f"
        return f"w->c->numbers[{self.numbers.setdefault(value, len(self.numbers))}]"

"""IR expressions to Triton expressions, as the statements of one generated device function.

Integers are 32-bit where static ranges show that no part leaves them, otherwise 64-bit throughout the function.
Triton's `//` and `%` round toward zero: they stand alone only where both operands are known not to be negative.
Floats are 64-bit in relations and 32-bit in scores, which compare in 64.
"""

from collections.abc import Callable, Iterable, Mapping

from maskdsl.emit.torch_printer import ATOM, INFIX, OR, PREFIX, UNARY, TorchPrinter, constant
from maskdsl.ir.expressions import (
    Batch,
    Constant,
    Coordinate,
    Expression,
    Head,
    InSpace,
    Read,
    Score,
    Side,
    walk,
)
from maskdsl.ir.mask import MaskIR, Sequence
from maskdsl.ir.ops import COMPARISONS, Op, Type
from maskdsl.ir.ranges import INT32, Range, expression_range, mask_leaf
from maskdsl.plan import unused

FUNCTIONS = {
    Op.ABSOLUTE: "tl.abs",
    Op.MINIMUM: "tl.minimum",
    Op.MAXIMUM: "tl.maximum",
    Op.SELECT: "tl.where",
    Op.IS_POWER_OF_TWO: "is_power_of_two",
    Op.SQUARE_ROOT: "tl.sqrt",
    Op.EXPONENTIAL: "tl.exp",
    Op.LOGARITHM: "tl.log",
    Op.TANH: "tanh",
    Op.SIGMOID: "tl.sigmoid",
}


class TritonPrinter(TorchPrinter):
    """Collects the statements of one device function."""

    def __init__(
        self,
        coordinates: Callable[[Side, str], str],
        inputs: Mapping[str, str],
        mask: MaskIR,
        sequences: Mapping[Side, Sequence],
        relation: bool,
        taken: Iterable[str] = (),
    ) -> None:
        super().__init__(coordinates, inputs, sequences, relation, {*taken, "tl"})
        self.cast = ".to(tl.float64)" if relation else ".to(tl.float32)"
        self.mask = mask
        self.leaf = mask_leaf(mask)
        self.wide = False

    def statement(self, start: str, expression: Expression) -> None:
        self.wide = any(node.type is Type.INT and not _fits(self.range(node)) for node in walk(expression))
        super().statement(start, expression)

    def range(self, expression: Expression) -> Range:
        return expression_range(expression, self.leaf)

    def assign_score(self, expression: Expression) -> None:
        if reads_score(expression):
            super().assign_score(expression)
        else:  # it may have fewer axes
            self.statement("s = tl.zeros_like(s) + ", expression)

    def fresh(self, expression: Expression) -> tuple[str, int]:
        match expression:
            case Constant(value=float(value)) if self.double:
                return f"tl.full((), {constant(value)[0]}, tl.float64)", ATOM
            case Coordinate(type=Type.INT) | Head() | Batch() if self.wide:
                return f"{super().fresh(expression)[0]}.to(tl.int64)", ATOM
            case Read():
                return self.entry(expression), ATOM
            case InSpace(side, space):
                return self.membership(side, space), ATOM
            case _:
                return super().fresh(expression)

    def entry(self, read: Read) -> str:
        """Adds statements that find and load an element of a table; the name of its value."""
        table, declared = self.inputs[read.input], self.mask.input(read.input)
        assert declared is not None
        place, value = (unused(f"{table}_{part}", self.taken) for part in ("place", "value"))
        self.taken |= {place, value}
        for axis, (index, dimension) in enumerate(zip(read.indices, declared.dimensions, strict=True)):
            text, reach = self.in_int64(index), self.range(index)
            if dimension.size is None or reach.low < 0 or reach.high >= dimension.size:
                text = f"inside({text}, {table}_size_{axis})"
            before = f"{place} + " if axis else ""
            self.lines.append(f"{place} = {before}{text} * {table}_step_{axis}")
        convert = {Type.FLOAT: self.cast, Type.INT: ".to(tl.int64)" * self.wide, Type.BOOL: " != 0"}[read.type]
        self.lines.append(f"{value} = tl.load({table} + {place}){convert}")
        self.known[read] = value
        return value

    def membership(self, side: Side, space: str) -> str:
        position = self.coordinates(side, "i")
        letter = "q" if side is Side.QUERY else "k"
        return f"(({position} >= {letter}_{space}_start) & ({position} < {letter}_{space}_stop))"

    def apply(self, op: Op, arguments: tuple[Expression, ...]) -> tuple[str, int]:
        if op in COMPARISONS and arguments[0].type is Type.FLOAT and not self.double:
            sign, own, _, _ = INFIX[op]
            left, right = (self.in_double(each) for each in arguments)
            return f"{left} {sign} {right}", own
        match op:
            case Op.FLOOR_DIVIDE | Op.FLOOR_MODULO if any(self.range(each).low < 0 for each in arguments):
                name = "floor_divide" if op is Op.FLOOR_DIVIDE else "floor_modulo"
                return f"{name}({', '.join(self.place(each, 0) for each in arguments)})", ATOM
            case Op.POWER:
                return self.power(*arguments)
            case Op.INTEGER_LOG2:
                return f"integer_log2({self.in_int64(arguments[0])})", ATOM
            case Op.RANDOM:
                state = "tl.full((), 0, tl.int64)"
                for argument in arguments:
                    state = f"random_word({state}, {self.in_int64(argument)})"
                return f"({state} >> 1)" + (".to(tl.int32)" if not self.wide else ""), ATOM
            case Op.TO_FLOAT:
                return self.place(arguments[0], ATOM) + self.cast, ATOM
            case Op.NOT | Op.NEGATE:
                return PREFIX[op] + self.place(arguments[0], UNARY), UNARY
            case _ if op in INFIX:
                sign, own, left_place, right_place = INFIX[op]
                texts = [self.place(each, right_place if n else left_place) for n, each in enumerate(arguments)]
                return f" {sign} ".join(texts), own
            case _:
                return f"{FUNCTIONS[op]}({', '.join(self.place(each, 0) for each in arguments)})", ATOM

    def power(self, base: Expression, exponent: Expression) -> tuple[str, int]:
        assert isinstance(exponent, Constant)
        text, value = self.place(base, 0), exponent.value
        if value == int(value) and abs(value) <= 64:
            whole = f"power({text}, {abs(int(value))})"
            return (whole, ATOM) if value >= 0 else (f"1.0 / {whole}", OR)
        return f"tl.exp2({self.place(exponent, ATOM)} * tl.log2({text}))", ATOM

    def in_int64(self, expression: Expression) -> str:
        if isinstance(expression, Constant):
            return f"tl.full((), {self.place(expression, 0)}, tl.int64)"
        return f"{self.place(expression, ATOM)}.to(tl.int64)"

    def in_double(self, expression: Expression) -> str:
        if isinstance(expression, Constant):
            return f"tl.full((), {constant(expression.value)[0]}, tl.float64)"
        return f"{self.place(expression, ATOM)}.to(tl.float64)"


def reads_score(expression: Expression) -> bool:
    return any(isinstance(node, Score) for node in walk(expression))


def _fits(reach: Range) -> bool:
    return reach.low in INT32 and reach.high in INT32

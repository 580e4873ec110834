"""IR expressions to Triton, as statements inside a generated kernel. Imports `ir` and `plan`.

Integers have 32 bits unless static ranges say that they need 64. Triton's `//` and `%` round toward zero, so they print
Python's only for operands that are never negative. Relations compute floats in float64; scores compute in the type of
`s`, and in float64 what they compare, as it is, and what they round to integers.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import TypeGuard, assert_never

import numpy as np

from maskdsl.emit.plan import unused
from maskdsl.emit.statement_printer import ATOM, COMPARISON, INFIX, OR, PRODUCT, SUM, UNARY, Printer, literal
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
    Side,
)
from maskdsl.ir.facts.ranges import INT32, Range, expression_range
from maskdsl.ir.facts.reads import reads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import COMPARISONS, OPERATORS, ROUNDINGS, Op, Type
from maskdsl.ir.values.fixed_random import WORD, random_state

_PREFIX = {Op.NEGATE: "-", Op.NOT: "~"}
_LONGEST_POWER = 64
"""Larger powers of integers stay within 64 bits only for bases -1, 0 and 1, where the exponent's parity decides."""
_ONE_BY_ONE = " + tl.zeros([1, 1], tl.int32)"
"""Makes a block of a scalar: Triton's interpreter makes a float of a comparison of scalar floats."""
_LEAST_DIVISOR = 2.0**-100
_Names = Callable[[Side, str], str]
POSITIONS = {Side.QUERY: "query_positions", Side.KEY: "key_positions"}
QUERIES_BY_KEYS = {Side.QUERY: "[:, None]", Side.KEY: "[None, :]"}
"""Indexing that broadcasts a value a token to scores [queries, keys]."""
KEYS_BY_QUERIES = {Side.QUERY: "[None, :]", Side.KEY: "[:, None]"}
"""The same for scores [keys, queries]."""


class TritonPrinter(Printer):
    """Prints expressions of one mask. `relation` says that floats are float64, not of the type of `s`.

    `offsets` names the variables that shall hold the offsets of some table elements. Where it `approximates`, kernels
    have the constant APPROXIMATE, and multiply by the reciprocals of constants.
    `loads` are integers that kernels load in place of computing them, with their ranges.
    """

    def __init__(
        self,
        mask: MaskIR,
        leaf: Callable[[Leaf], Range],
        coordinates: _Names,
        spaces: _Names,
        inputs: Mapping[str, str],
        relation: bool,
        taken: Iterable[str],
        axes: Mapping[Side, str] = QUERIES_BY_KEYS,
        offsets: Mapping[Expression, str] | None = None,
        prefix: str = "",
        approximates: bool = False,
        loads: Mapping[Expression, tuple[str, Range]] | None = None,
    ) -> None:
        super().__init__(taken, relation, prefix)
        self.approximates = approximates
        self.loads = loads or {}
        self.mask = mask
        self.leaf = leaf
        self.coordinates = coordinates
        self.spaces = spaces
        self.inputs = inputs
        self.axes = axes
        self.offsets = offsets or {}
        self.ranges: dict[Expression, Range] = {each: known for each, (_, known) in self.loads.items()}
        self.wide: dict[Expression, bool] = dict.fromkeys(self.loads, False)

    @property
    def float_type(self) -> str:
        """The type of floats."""
        return "tl.float64" if self.double else "s.dtype"

    def range(self, expression: Expression) -> Range:
        if expression not in self.ranges:
            self.ranges[expression] = expression_range(expression, self.leaf)
        return self.ranges[expression]

    def fresh(self, expression: Expression) -> tuple[str, int]:
        if isinstance(expression, Apply) and expression in self.loads:
            return self.name(expression, self.loads[expression][0]), ATOM
        match expression:
            case Constant(value):
                return self.constant(value)
            case Coordinate(side, name, kind):
                text = self.coordinates(side, name)
                return f"{text}.to({self.float_type})" if kind is Type.FLOAT else text, ATOM
            case InSpace(side, space):
                return self.membership(side, space)
            case Head():
                return "head", ATOM
            case Batch():
                return "batch", ATOM
            case Score():
                return "s.to(tl.float64)" if self.double else "s", ATOM
            case Read():
                return self.name(expression, self.read(expression)), ATOM
            case Apply(op, arguments):
                return self.apply(op, arguments)
            case _:
                assert_never(expression)

    def filled(self, value: Constant) -> str:
        return f"tl.zeros_like(s) + {self.constant(value.value)[0]}"

    def constant(self, value: int | float | bool) -> tuple[str, int]:
        match value:
            case bool():
                return repr(value), ATOM
            case float() if not isfinite(value):
                return literal(value), ATOM
            case int() if value not in INT32:
                return f"tl.full([], {value}, tl.int64)", ATOM
            case _:
                return repr(value), UNARY if repr(value).startswith("-") else ATOM

    def argument(self, expression: Expression) -> str:
        """The argument of a function: a float constant is typed, as Triton would make it float32."""
        if isinstance(expression, Constant) and expression.type is Type.FLOAT:
            return f"tl.full([], {self.operand(expression, OR)}, {self.float_type})"
        return self.operand(expression, COMPARISON)

    def membership(self, side: Side, space: str) -> tuple[str, int]:
        """Whether the token is in a space. A layout permutes tokens within their space only."""
        name = self.spaces(side, space)
        positions = f"{POSITIONS[side]}{self.axes[side]}"
        return f"(({positions} >= {name}_start) & ({positions} < {name}_end))", ATOM

    # Operators

    def apply(self, op: Op, arguments: tuple[Expression, ...]) -> tuple[str, int]:
        expression = Apply(op, arguments)
        if op in COMPARISONS and arguments[0].type is Type.FLOAT and not self.double:
            sign, precedence, _, _ = INFIX[op]
            return f" {sign} ".join(map(self.in_double, arguments)), precedence
        if op is Op.DIVIDE and self.approximates and not self.double and _has_reciprocal(arguments[1]):
            return self.apply(Op.MULTIPLY, (arguments[0], Constant(1.0 / arguments[1].value)))
        if op is Op.POWER:
            return self.power(expression, *arguments)
        if op is Op.RANDOM:
            return self.random(arguments), ATOM
        if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO) and self.needs_care(arguments):
            return f"{OPERATORS[op].triton}({', '.join(self.divided(expression, arguments))})", ATOM
        if op in INFIX:
            sign, precedence, left, right = INFIX[op]
            tightness = [left, *(right for _ in arguments[1:])]
            return f" {sign} ".join(self.operands(expression, arguments, tightness)), precedence
        if op in _PREFIX:
            return _PREFIX[op] + self.operands(expression, arguments, [UNARY])[0], UNARY
        if op is Op.SHARE_BIT:
            return f"({' & '.join(self.operand(each, SUM) for each in arguments)}) != 0", COMPARISON
        if op is Op.TO_FLOAT:
            return self.to_float(*arguments), ATOM
        if op in ROUNDINGS:
            return self.rounded(expression), ATOM
        if op is Op.TANH and self.approximates and not self.double:
            return f"score_tanh({self.argument(*arguments)}, APPROXIMATE)", ATOM
        integers = expression.type is Type.INT  # may need widening
        texts = (
            self.operands(expression, arguments, [COMPARISON] * len(arguments))
            if integers
            else map(self.argument, arguments)
        )
        return f"{OPERATORS[op].triton}({', '.join(texts)})", ATOM

    def to_float(self, expression: Expression) -> str:
        if not reads(expression).coordinates:
            return f"({self.operand(expression, SUM)}{_ONE_BY_ONE}).to({self.float_type})"
        return f"{self.operand(expression, ATOM)}.to({self.float_type})"

    def in_double(self, expression: Expression) -> str:
        if isinstance(expression, Constant):
            return self.operand(expression, OR)
        return f"{self.operand(expression, ATOM)}.to(tl.float64)"

    def rounded(self, expression: Apply) -> str:
        """An integer of a float. Where ranges do not tell that it fits, it is held within 64 bits."""
        with self.in_float64():
            text = f"{OPERATORS[expression.op].triton}({self.argument(expression.arguments[0])})"
        return f"as_integers({text})" if self.is_wide(expression) else f"{text}.to(tl.int32)"

    def operands(self, expression: Apply, arguments: tuple[Expression, ...], tightness: Iterable[int]) -> list[str]:
        """The texts of operands. Where the result needs more bits than any operand, the first variable is widened."""
        widen = expression.type is Type.INT and self.is_wide(expression) and not any(map(self.is_wide, arguments))
        texts = []
        for argument, precedence in zip(arguments, tightness, strict=True):
            if widen and not isinstance(argument, Constant):
                texts.append(f"{self.operand(argument, ATOM)}.to(tl.int64)")
                widen = False
            else:
                texts.append(self.operand(argument, precedence))
        return texts

    def is_wide(self, expression: Expression) -> bool:
        """Whether the printed integer has 64 bits."""
        if expression not in self.wide:
            match expression:
                case Apply(op=Op.RANDOM | Op.INTEGER_LOG2) | Read():
                    wide = False
                case Apply(arguments=arguments) if expression.type is Type.INT:
                    wide = not self.fits(expression) or any(map(self.is_wide, arguments))
                case _:
                    wide = expression.type is Type.INT and not self.fits(expression)
            self.wide[expression] = wide
        return self.wide[expression]

    def fits(self, expression: Expression) -> bool:
        low, high = self.range(expression)
        return low in INT32 and high in INT32

    # Division

    def needs_care(self, arguments: tuple[Expression, ...]) -> bool:
        dividend, divisor = map(self.range, arguments)
        return dividend.low < 0 or divisor.low <= 0

    def divided(self, expression: Apply, arguments: tuple[Expression, ...]) -> list[str]:
        """Operands of a floor division. Zero divisors become 1, as division by zero traps for masked pairs too."""
        dividend, divisor = self.operands(expression, arguments, [COMPARISON, COMPARISON])
        if 0 in self.range(arguments[1]):
            divisor = self.operand(arguments[1], OR)
            divisor = f"tl.where({divisor} == 0, 1, {divisor})"
        return [dividend, divisor]

    # Powers, random integers

    def power(self, expression: Apply, base: Expression, exponent: Expression) -> tuple[str, int]:
        assert isinstance(exponent, Constant)
        number = exponent.value
        if number != int(number):
            return f"tl.exp2({number!r} * tl.log2({self.operand(base, COMPARISON)}))", ATOM
        if base.type is Type.FLOAT and abs(number) > _LONGEST_POWER:
            text = self.operand(base, COMPARISON)
            size = f"tl.exp2({number!r} * tl.log2(tl.abs({text})))"
            return (f"tl.where({text} < 0, -{size}, {size})" if number % 2 else size), ATOM
        if number < 0:
            return f"1.0 / {self.factors(expression, base, -int(number), UNARY)[0]}", PRODUCT
        count = int(number)
        if count > _LONGEST_POWER:
            count = 2 + count % 2
        return self.factors(expression, base, count, PRODUCT)

    def factors(self, expression: Apply, base: Expression, count: int, tightness: int) -> tuple[str, int]:
        """A product of equal factors, of at least this precedence."""
        if count < 2:
            text = self.operands(expression, (base,), [ATOM])[0]
            return (text, ATOM) if count else (f"({text} * 0 + 1)", ATOM)
        text = self.operands(expression, (base,), [COMPARISON])[0]
        if count == 2 and text.isidentifier() and tightness == PRODUCT:
            return f"{text} * {text}", PRODUCT
        return f"power({text}, {count})", ATOM

    def random(self, arguments: tuple[Expression, ...]) -> str:
        """A chain of `mix`; leading constants are folded into its first word."""
        numbers = list(arguments)
        known: list[int] = []
        while numbers and isinstance(numbers[0], Constant):
            known.append(int(numbers.pop(0).value))  # type: ignore[union-attr]
        text = str(random_state(*map(np.asarray, known)))
        if not numbers:
            return str(int(text) >> 1)
        for number in numbers:
            word = (
                str(int(number.value) & WORD)
                if isinstance(number, Constant)
                else f"{self.operand(number, ATOM)}.to(tl.uint32)"
            )
            text = f"mix({text}, {word})"
        return f"({text} >> 1).to(tl.int32)"

    # Tables

    def read(self, expression: Read) -> str:
        """An element of a table; NaN for an open read outside of it. The number of an entry of a sparse input."""
        if expression.sparse:
            row, column = (self.operand(index, COMPARISON) for index in expression.indices[-2:])
            return f"find_entry({self.inputs[expression.input]}, {self.list_offset(expression)}, {row}, {column})"
        element = self.element(expression)
        if not expression.open:
            return element
        return f"tl.where({self.is_inside(expression)}, {element}, float('nan'))"

    def list_offset(self, expression: Read) -> str:
        """The offset of the list of entries at the indices in front of row and column."""
        declared, table = self.mask.input(expression.input), self.inputs[expression.input]
        assert declared is not None
        terms = []
        for axis, (index, dimension) in enumerate(zip(expression.indices[:-2], declared.dimensions, strict=False)):
            text = self.inside(index, dimension.size, f"{table}_size_{axis}")
            text = "wide_batch" if index == Batch() else f"tl.cast({text}, {table}_width.dtype)"
            terms.append(f"{text} * {table}_stride_{axis}")
        return " + ".join(terms) or "0"

    def is_inside(self, expression: Read) -> str:
        """The bounds checks of an open read that static ranges do not make superfluous."""
        declared = self.mask.input(expression.input)
        assert declared is not None
        tests = []
        for axis, (index, dimension) in enumerate(zip(expression.indices, declared.dimensions, strict=True)):
            (low, high), size = self.range(index), dimension.size
            text = self.operand(index, COMPARISON)
            tests += [f"({text} >= 0)"] if index != Batch() and low < 0 else []
            name = f"{self.inputs[expression.input]}_size_{axis}"
            tests += [f"({text} < {name})"] if size is not None and high >= size else []
        return " & ".join(tests) or "True"

    def element(self, expression: Read) -> str:
        """The load of a table element, of indices clamped to the table."""
        address = self.address(expression)
        match expression.type:
            case Type.BOOL:
                return f"tl.load({address}) != 0"
            case Type.FLOAT if not reads(expression).coordinates:
                return f"tl.load({address}{_ONE_BY_ONE}).to({self.float_type})"
            case Type.FLOAT:
                return f"tl.load({address}).to({self.float_type})"
            case Type.INT:
                return f"tl.load({address})"

    def address(self, expression: Read) -> str:
        """The pointer to a table element: what is the same for all pairs is added to it first."""
        table = self.inputs[expression.input]
        if expression in self.offsets:
            return f"{table} + {self.table_offset(expression)}"
        first, *rest = self.offset_terms(expression)
        return self.summed([f"{table} + {first}", *rest], None, f"{table}_element")

    def table_offset(self, expression: Read) -> str:
        """The offset of a table element."""
        terms = self.offset_terms(expression)
        return self.summed(terms, self.offsets.get(expression), f"{self.inputs[expression.input]}_offset")

    def offset_terms(self, expression: Read) -> list[str]:
        """The terms of an offset. Indices are clamped: pairs that do not attend may have any."""
        declared = self.mask.input(expression.input)
        assert declared is not None
        sizes = [dimension.size for dimension in declared.dimensions]
        table, terms = self.inputs[expression.input], []
        for axis, (index, size) in enumerate(zip(expression.indices, sizes, strict=True)):
            text = self.inside(index, size, f"{table}_size_{axis}")
            text = "wide_batch" if index == Batch() else f"tl.cast({text}, {table}_width.dtype)"
            terms.append(f"{text} * {table}_stride_{axis}")
        return terms or ["0"]

    def summed(self, terms: list[str], name: str | None, stem: str) -> str:
        """The sum of terms: as it is if short, else accumulated in a variable, called `name` if given."""
        text = " + ".join(terms)
        short = len(text) < self.width - 30
        if short and name is None:
            return text
        name = name or unused(f"{self.prefix}{stem}", self.taken)
        self.taken.add(name)
        first, *rest = [text] if short else terms
        self.lines += [f"{name} = {first}", *(f"{name} += {term}" for term in rest)]
        return name

    def inside(self, index: Expression, size: int | None, name: str) -> str:
        """An index, clamped to the table at the ends that static ranges leave open."""
        low, high = self.range(index)
        over = size is None or high >= size
        if isinstance(index, Constant) or index == Batch() or (low >= 0 and not over):
            return self.operand(index, PRODUCT)
        text = self.operand(index, COMPARISON)
        if len(text) > self.width // 2 and isinstance(index, Apply):
            text = self.name(index, text)
        if low < 0:
            return f"inside({text}, {name})" if over else f"tl.maximum({text}, 0)"
        return f"tl.minimum({text}, {name} - 1)"


def _has_reciprocal(divisor: Expression) -> TypeGuard[Constant]:
    """Whether it is a constant whose reciprocal float32 holds: kernels multiply by it, as division takes long."""
    return isinstance(divisor, Constant) and _LEAST_DIVISOR < abs(divisor.value) < 1 / _LEAST_DIVISOR

"""IR expressions to Triton, as statements inside a generated kernel. Imports `ir` and `plan`.

Integers are 32 bits wide unless static ranges say that 64 are needed. Triton's `//` and `%` round toward zero: they
stand for Python's only where nothing is negative. Relations compute floats in float64; scores compute in the type of
`s`, and compare in float64.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import assert_never

import numpy as np

from maskdsl.emit.plan import unused
from maskdsl.emit.skeleton import read_skeleton
from maskdsl.emit.statement_printer import ATOM, COMPARISON, INFIX, OR, PRODUCT, SUM, UNARY, Printer
from maskdsl.emit.torch.pattern_functions import helper
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
from maskdsl.ir.fixed_random import WORD, random_state
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import COMPARISONS, OPERATORS, TRITON_HELPERS, Op, Type

_PREFIX = {Op.NEGATE: "-", Op.NOT: "~"}
HELPERS = ("inside", "power", "mix", *TRITON_HELPERS)
"""Functions of `codegen/triton_functions.py` that expressions call."""
_LONGEST_POWER = 64
"""Larger powers of integers stay within 64 bits only for -1, 0 and 1, which repeat."""
_Names = Callable[[Side, str], str]
PLACES = {Side.QUERY: "query_positions", Side.KEY: "key_positions"}
QUERIES_BY_KEYS = {Side.QUERY: "[:, None]", Side.KEY: "[None, :]"}
"""How a value for every token of a side is spread over scores [queries, keys]."""
KEYS_BY_QUERIES = {Side.QUERY: "[None, :]", Side.KEY: "[:, None]"}


class TritonPrinter(Printer):
    """Prints for one mask. `relation` says that floats are float64, not of the type of `s`.

    `positions` are names under which the places of some elements of tables are kept.
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
        positions: Mapping[Expression, str] | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__(taken, prefix)
        self.mask = mask
        self.leaf = leaf
        self.coordinates = coordinates
        self.spaces = spaces
        self.inputs = inputs
        self.axes = axes
        self.positions = positions or {}
        self.double = relation
        self.ranges: dict[Expression, Range] = {}
        self.wide: dict[Expression, bool] = {}
        self.float = "tl.float64" if relation else "s.dtype"

    def range(self, expression: Expression) -> Range:
        if expression not in self.ranges:
            self.ranges[expression] = expression_range(expression, self.leaf)
        return self.ranges[expression]

    def fresh(self, expression: Expression) -> tuple[str, int]:
        match expression:
            case Constant(value):
                return self.constant(value)
            case Coordinate(side, name, kind):
                text = self.coordinates(side, name)
                return f"{text}.to({self.float})" if kind is Type.FLOAT else text, ATOM
            case InSpace(side, space):
                return self.membership(side, space)
            case Head():
                return "head", ATOM
            case Batch():
                return "batch", ATOM
            case Score():
                return "s", ATOM
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
                return f'float("{value}")', ATOM
            case int() if value not in INT32:
                return f"tl.full([], {value}, tl.int64)", ATOM
            case _:
                return repr(value), UNARY if repr(value).startswith("-") else ATOM

    def argument(self, expression: Expression) -> str:
        """An operand of a function, which would take a float constant alone as float32."""
        if isinstance(expression, Constant) and expression.type is Type.FLOAT:
            return f"tl.full([], {self.position(expression, OR)}, {self.float})"
        return self.position(expression, COMPARISON)

    def membership(self, side: Side, space: str) -> tuple[str, int]:
        """That the token's place is in the space's stretch, which is the same in every layout."""
        name = self.spaces(side, space)
        positions = f"{PLACES[side]}{self.axes[side]}"
        return f"(({positions} >= {name}_start) & ({positions} < {name}_end))", ATOM

    # Operators

    def apply(self, op: Op, arguments: tuple[Expression, ...]) -> tuple[str, int]:
        expression = Apply(op, arguments)
        if op in COMPARISONS and arguments[0].type is Type.FLOAT and not self.double:
            sign, own, _, _ = INFIX[op]
            return f" {sign} ".join(map(self.in_double, arguments)), own
        if op is Op.POWER:
            return self.power(expression, *arguments)
        if op is Op.RANDOM:
            return self.random(arguments), ATOM
        if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO) and self.needs_care(arguments):
            return f"{OPERATORS[op].triton}({', '.join(self.divided(expression, arguments))})", ATOM
        if op in INFIX:
            sign, own, left_position, right_position = INFIX[op]
            positions = [left_position, *(right_position for _ in arguments[1:])]
            return f" {sign} ".join(self.operands(expression, arguments, positions)), own
        if op in _PREFIX:
            return _PREFIX[op] + self.operands(expression, arguments, [UNARY])[0], UNARY
        if op is Op.SHARE_BIT:
            return f"({' & '.join(self.position(each, SUM) for each in arguments)}) != 0", COMPARISON
        if op is Op.TO_FLOAT:
            return f"{self.position(arguments[0], ATOM)}.to({self.float})", ATOM
        integers = expression.type is Type.INT  # of a result with more bits than its operands
        texts = (
            self.operands(expression, arguments, [COMPARISON] * len(arguments))
            if integers
            else map(self.argument, arguments)
        )
        return f"{OPERATORS[op].triton}({', '.join(texts)})", ATOM

    def in_double(self, expression: Expression) -> str:
        if isinstance(expression, Constant):
            return self.position(expression, OR)
        return f"{self.position(expression, ATOM)}.to(tl.float64)"

    def operands(self, expression: Apply, arguments: tuple[Expression, ...], positions: Iterable[int]) -> list[str]:
        """Texts of operands, the first that varies widened where the result needs more bits than all of them."""
        widen = expression.type is Type.INT and self.is_wide(expression) and not any(map(self.is_wide, arguments))
        texts = []
        for argument, position in zip(arguments, positions, strict=True):
            if widen and not isinstance(argument, Constant):
                texts.append(f"{self.position(argument, ATOM)}.to(tl.int64)")
                widen = False
            else:
                texts.append(self.position(argument, position))
        return texts

    def is_wide(self, expression: Expression) -> bool:
        """Whether an integer's text has 64 bits."""
        if expression not in self.wide:
            match expression:
                case Apply(op=Op.RANDOM | Op.INTEGER_LOG2) | Read():
                    found = False
                case Apply(arguments=arguments) if expression.type is Type.INT:
                    found = not self.fits(expression) or any(map(self.is_wide, arguments))
                case _:
                    found = expression.type is Type.INT and not self.fits(expression)
            self.wide[expression] = found
        return self.wide[expression]

    def fits(self, expression: Expression) -> bool:
        low, high = self.range(expression)
        return low in INT32 and high in INT32

    # Division

    def needs_care(self, arguments: tuple[Expression, ...]) -> bool:
        dividend, divisor = map(self.range, arguments)
        return dividend.low < 0 or divisor.low <= 0

    def divided(self, expression: Apply, arguments: tuple[Expression, ...]) -> list[str]:
        """Operands of a floor division; no divisor may be zero, not even where nobody asks for the result."""
        dividend, divisor = self.operands(expression, arguments, [COMPARISON, COMPARISON])
        if 0 in self.range(arguments[1]):
            divisor = self.position(arguments[1], OR)
            divisor = f"tl.where({divisor} == 0, 1, {divisor})"
        return [dividend, divisor]

    # Powers, random integers

    def power(self, expression: Apply, base: Expression, exponent: Expression) -> tuple[str, int]:
        assert isinstance(exponent, Constant)
        number = exponent.value
        if number != int(number):
            return f"tl.exp2({number!r} * tl.log2({self.position(base, COMPARISON)}))", ATOM
        if base.type is Type.FLOAT and abs(number) > _LONGEST_POWER:
            text = self.position(base, COMPARISON)
            size = f"tl.exp2({number!r} * tl.log2(tl.abs({text})))"
            return (f"tl.where({text} < 0, -{size}, {size})" if number % 2 else size), ATOM
        if number < 0:
            return f"1.0 / {self.factors(expression, base, -int(number), UNARY)[0]}", PRODUCT
        count = int(number)
        if count > _LONGEST_POWER:
            count = 2 + count % 2
        return self.factors(expression, base, count, PRODUCT)

    def factors(self, expression: Apply, base: Expression, count: int, tightness: int) -> tuple[str, int]:
        """A product of equal factors, which binds at least so tightly."""
        if count < 2:
            text = self.operands(expression, (base,), [ATOM])[0]
            return (text, ATOM) if count else (f"({text} * 0 + 1)", ATOM)
        text = self.operands(expression, (base,), [COMPARISON])[0]
        if count == 2 and text.isidentifier() and tightness == PRODUCT:
            return f"{text} * {text}", PRODUCT
        return f"power({text}, {count})", ATOM

    def random(self, arguments: tuple[Expression, ...]) -> str:
        """The words mixed in one by one; those that are constants and come first already are."""
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
                else f"{self.position(number, ATOM)}.to(tl.uint32)"
            )
            text = f"mix({text}, {word})"
        return f"({text} >> 1).to(tl.int32)"

    # Tables

    def read(self, expression: Read) -> str:
        """An element of a table."""
        element = self.element(expression)
        if not expression.open:
            return element
        return f"tl.where({self.is_inside(expression)}, {element}, float('nan'))"

    def is_inside(self, expression: Read) -> str:
        """That no index leaves the table, as far as static ranges do not show it."""
        declared = self.mask.input(expression.input)
        assert declared is not None
        tests = []
        for axis, (index, dimension) in enumerate(zip(expression.indices, declared.dimensions, strict=True)):
            (low, high), size = self.range(index), dimension.size
            text = self.position(index, COMPARISON)
            tests += [f"({text} >= 0)"] if index != Batch() and low < 0 else []
            name = f"{self.inputs[expression.input]}_size_{axis}"
            tests += [f"({text} < {name})"] if size is not None and high >= size else []
        return " & ".join(tests) or "True"

    def element(self, expression: Read) -> str:
        """An element of a table, of indices that are moved into it."""
        address = f"{self.inputs[expression.input]} + {self.table_position(expression)}"
        match expression.type:
            case Type.BOOL:
                return f"tl.load({address}) != 0"
            case Type.FLOAT if not reads(expression).coordinates:
                # A block of one: the interpreter takes a comparison of scalar floats for a float.
                return f"tl.load({address} + tl.zeros([1, 1], tl.int32)).to({self.float})"
            case Type.FLOAT:
                return f"tl.load({address}).to({self.float})"
            case Type.INT:
                return f"tl.load({address})"

    def table_position(self, expression: Read) -> str:
        """Where it is. Pairs that do not attend may ask anywhere: indices are moved into bounds."""
        declared = self.mask.input(expression.input)
        assert declared is not None
        sizes = [dimension.size for dimension in declared.dimensions]
        table, terms = self.inputs[expression.input], []
        for axis, (index, size) in enumerate(zip(expression.indices, sizes, strict=True)):
            text = self.inside(index, size, f"{table}_size_{axis}")
            text = "wide_batch" if index == Batch() else f"tl.cast({text}, {table}_width.dtype)"
            terms.append(f"{text} * {table}_stride_{axis}")
        return self.summed(table, terms, self.positions.get(expression))

    def summed(self, table: str, terms: list[str], name: str | None) -> str:
        """The terms of an element's place; where it has a name or a long text, in statements of their own."""
        text = " + ".join(terms)
        short = len(text) < self.width - 30
        if short and name is None:
            return text
        name = name or unused(f"{self.prefix}{table}_position", self.taken)
        self.taken.add(name)
        first, *rest = [text] if short else terms
        self.lines += [f"{name} = {first}", *(f"{name} += {term}" for term in rest)]
        return name

    def inside(self, index: Expression, size: int | None, name: str) -> str:
        """An index, moved into bounds as far as static ranges do not show that it is there."""
        low, high = self.range(index)
        over = size is None or high >= size
        if isinstance(index, Constant) or index == Batch() or (low >= 0 and not over):
            return self.position(index, PRODUCT)
        text = self.position(index, COMPARISON)
        if len(text) > self.width // 2 and isinstance(index, Apply):
            text = self.name(index, text)
        if low < 0:
            return f"inside({text}, {name})" if over else f"tl.maximum({text}, 0)"
        return f"tl.minimum({text}, {name} - 1)"


def kernel_helpers(lines: Iterable[str]) -> list[list[str]]:
    """The functions of `codegen/triton_functions.py` that expressions call in these lines of kernels."""
    text, lines = read_skeleton("triton_functions"), list(lines)
    used = [name for name in HELPERS if any(f"{name}(" in line for line in lines)]
    return [["@triton.jit", *helper(text, name)] for name in used]

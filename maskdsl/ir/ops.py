"""The operators of the IR, one row each: operand types, NumPy meaning, result type, and spelling in each language.

The binder, the verifier, the printers, the language server and the tests read this table. Each operator also has a rule
in `ir/facts/ranges.py` (integer results), `ir/facts/intervals.py`, `ir/rewrites/derive.py` (float results) and
`view/page/assets/operators.js`; a test names the missing ones.
"""

from collections.abc import Callable
from enum import StrEnum, auto
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.records import dataclass
from maskdsl.ir.values.fixed_random import random_integers

Array = NDArray[Any]


class Type(StrEnum):
    """The type of an expression."""

    INT = auto()
    FLOAT = auto()
    BOOL = auto()


class Op(StrEnum):
    """Operators by meaning, not by symbol. Integers are 64 bits and exact; floats are 64 bits in relations."""

    ADD = auto()
    SUBTRACT = auto()
    MULTIPLY = auto()
    DIVIDE = auto()
    FLOOR_DIVIDE = auto()  # rounds toward minus infinity; the divisor is proven non-zero at bind
    FLOOR_MODULO = auto()  # has the sign of the divisor
    NEGATE = auto()
    POWER = auto()  # the exponent is a `Constant`; a non-negative one for integers
    ABSOLUTE = auto()
    MINIMUM = auto()
    MAXIMUM = auto()
    EQUAL = auto()
    NOT_EQUAL = auto()
    LESS = auto()  # > and >= are written with swapped operands
    LESS_EQUAL = auto()
    NOT = auto()
    AND = auto()
    OR = auto()
    SELECT = auto()  # condition, then, otherwise
    INTEGER_LOG2 = auto()
    IS_POWER_OF_TWO = auto()
    SHARE_BIT = auto()
    GREATEST_COMMON_DIVISOR = auto()
    RANDOM = auto()
    FLOOR = auto()  # `ROUNDINGS` give the nearest of 64 bits, and 0 for NaN
    ROUND_TO_EVEN = auto()
    TRUNCATE = auto()
    TO_FLOAT = auto()
    SQUARE_ROOT = auto()
    EXPONENTIAL = auto()
    LOGARITHM = auto()
    TANH = auto()
    SIGMOID = auto()


COMPARISONS = frozenset({Op.EQUAL, Op.NOT_EQUAL, Op.LESS, Op.LESS_EQUAL})
ROUNDINGS = frozenset({Op.FLOOR, Op.ROUND_TO_EVEN, Op.TRUNCATE})
"""Integers of floats. Backends compute what is rounded in float64, in scores too."""
INT, FLOAT, BOOL = (Type.INT,), (Type.FLOAT,), (Type.BOOL,)
_NUMBERS = INT + FLOAT
_ANY = _NUMBERS + BOOL


@dataclass(frozen=True)
class Operator:
    """One row of the table."""

    types: tuple[Type, ...]
    """The types that operands may have, all the same. Only the condition of `SELECT` is always a boolean."""
    meaning: Callable[..., Any]
    """The function on NumPy arrays, which broadcast. Exact on integers; an integer divided by zero is zero."""
    count: int = 2
    """The number of operands; the least number if it is variadic."""
    variadic: bool = False
    """Whether a node may have more operands than `count`."""
    folds: bool = False
    """Whether a call in the language may have more arguments, which bind applies pairwise: `min(a, b, c)`."""
    result: Type | None = None
    """The type of the result; None: that of the last operand."""
    symbol: str = ""
    """The infix or prefix symbol in the language."""
    function: str = ""
    """The function's name in the language."""
    parameters: tuple[str, ...] = ("x",)
    """The names of the arguments, for help texts."""
    help: str = ""
    """One sentence for completions and hovers."""
    torch: str = ""
    """The function in generated torch code: a method if it begins with a dot, a helper of `codegen/functions.py` if it
    has none. Empty where the printer writes a Python symbol or has a special rule."""
    triton: str = ""
    """The function in generated Triton kernels: a helper of `codegen/triton_functions.py` if it has no dot."""
    c: str = ""
    """The function of vectors of floats in generated C, or its symbol; empty where generated C has none."""
    name: str = ""
    """The name of a local variable that holds the result in generated code."""

    @property
    def call(self) -> str:
        """The call as help texts show it: `min(a, b, ...)`."""
        others = ", ..." if self.variadic or self.folds else ""
        return f"{self.function}({', '.join(self.parameters)}{others})"


def _integer_log2(x: Array) -> Array:
    return np.asarray(np.searchsorted(1 << np.arange(63, dtype=np.int64), x, side="right") - 1)


def _rounding(to_whole: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The 64-bit integers nearest to whole numbers; 0 for NaN."""

    def rounded(x: Array) -> Array:
        whole = np.nan_to_num(to_whole(x), posinf=np.inf, neginf=-np.inf)
        inside = np.where(np.abs(whole) < 2.0**63, whole, 0.0).astype(np.int64)
        limits = np.where(whole > 0, np.iinfo(np.int64).max, np.iinfo(np.int64).min)
        return np.asarray(np.where(np.abs(whole) < 2.0**63, inside, limits))

    return rounded


def _sigmoid(x: Array) -> Array:
    """Does not overflow for large arguments of either sign."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small))


OPERATORS: dict[Op, Operator] = {
    Op.ADD: Operator(_NUMBERS, np.add, symbol="+", name="total", c="+"),
    Op.SUBTRACT: Operator(_NUMBERS, np.subtract, symbol="-", name="difference", c="-"),
    Op.MULTIPLY: Operator(_NUMBERS, np.multiply, symbol="*", name="product", c="*"),
    Op.DIVIDE: Operator(FLOAT, np.divide, symbol="/", name="ratio", c="/"),
    Op.FLOOR_DIVIDE: Operator(INT, np.floor_divide, symbol="//", name="quotient", triton="floor_divide"),
    Op.FLOOR_MODULO: Operator(INT, np.mod, symbol="%", name="remainder", triton="floor_modulo"),
    Op.NEGATE: Operator(_NUMBERS, np.negative, 1, symbol="-", name="negative", c="-"),
    Op.POWER: Operator(_NUMBERS, np.power, symbol="**", name="power", c="power"),
    Op.ABSOLUTE: Operator(
        _NUMBERS,
        np.abs,
        1,
        function="abs",
        help="The absolute value.",
        torch=".abs",
        triton="tl.abs",
        c="absolute",
        name="distance",
    ),
    Op.MINIMUM: Operator(
        _NUMBERS,
        np.minimum,
        function="min",
        folds=True,
        parameters=("a", "b"),
        help="The least.",
        torch="torch.minimum",
        triton="tl.minimum",
        c="least",
        name="least",
    ),
    Op.MAXIMUM: Operator(
        _NUMBERS,
        np.maximum,
        function="max",
        folds=True,
        parameters=("a", "b"),
        help="The greatest. In a route, `max(k by c)` is the elementwise maximum of a group of vectors.",
        torch="torch.maximum",
        triton="tl.maximum",
        c="greatest",
        name="greatest",
    ),
    Op.EQUAL: Operator(_ANY, np.equal, result=Type.BOOL, symbol="=="),
    Op.NOT_EQUAL: Operator(_ANY, np.not_equal, result=Type.BOOL, symbol="!="),
    Op.LESS: Operator(_NUMBERS, np.less, result=Type.BOOL, symbol="<"),
    Op.LESS_EQUAL: Operator(_NUMBERS, np.less_equal, result=Type.BOOL, symbol="<="),
    Op.NOT: Operator(BOOL, np.logical_not, 1, symbol="not"),
    Op.AND: Operator(BOOL, lambda *operands: reduce(np.logical_and, operands), variadic=True, symbol="and"),
    Op.OR: Operator(BOOL, lambda *operands: reduce(np.logical_or, operands), variadic=True, symbol="or"),
    Op.SELECT: Operator(_ANY, np.where, 3, torch="torch.where", triton="tl.where", c="choose", name="choice"),
    Op.INTEGER_LOG2: Operator(
        INT,
        _integer_log2,
        1,
        function="ilog2",
        help="The binary logarithm rounded down; -1 below 1.",
        torch="integer_log2",
        triton="floor_log2",
        name="log2",
    ),
    Op.IS_POWER_OF_TWO: Operator(
        INT,
        lambda x: (x > 0) & (x & (x - 1) == 0),
        1,
        result=Type.BOOL,
        function="is_power_of_two",
        help="Whether x is 1, 2, 4, ...; false below 1.",
        torch="is_power_of_two",
        triton="has_one_bit",
    ),
    Op.SHARE_BIT: Operator(
        INT,
        lambda a, b: a & b != 0,
        result=Type.BOOL,
        function="share_bit",
        parameters=("a", "b"),
        help="Whether two integers have a one bit in common.",
    ),
    Op.GREATEST_COMMON_DIVISOR: Operator(
        INT,
        np.gcd,
        function="gcd",
        parameters=("a", "b"),
        help="The greatest integer that divides both; 0 of two zeros.",
        torch="gcd",
        triton="common_divisor",
        name="divisor",
    ),
    Op.RANDOM: Operator(
        INT,
        random_integers,
        1,
        variadic=True,
        function="random",
        parameters=("seed", "a", "b"),
        help="A fixed pseudo-random integer in 0 .. 2**31, equal on every backend.",
        torch="random",
        name="draw",
    ),
    Op.FLOOR: Operator(
        FLOAT,
        _rounding(np.floor),
        1,
        result=Type.INT,
        function="floor",
        help="The greatest integer that is not above x.",
        torch=".floor",
        triton="tl.floor",
        name="whole",
    ),
    Op.ROUND_TO_EVEN: Operator(
        FLOAT,
        _rounding(np.rint),
        1,
        result=Type.INT,
        function="round",
        help="The nearest integer; of two, the even one.",
        torch=".round",
        triton="round_to_even",
        name="whole",
    ),
    Op.TRUNCATE: Operator(
        FLOAT,
        _rounding(np.trunc),
        1,
        result=Type.INT,
        function="int",
        help="The integer in front of the point: rounds toward zero.",
        torch=".trunc",
        triton="truncate",
        name="whole",
    ),
    Op.TO_FLOAT: Operator(
        INT,
        lambda x: np.asarray(x, dtype=np.float64),
        1,
        result=Type.FLOAT,
        function="float",
        help="The integer as a float.",
    ),
    Op.SQUARE_ROOT: Operator(
        FLOAT,
        np.sqrt,
        1,
        function="sqrt",
        help="The square root, of floats.",
        torch=".sqrt",
        triton="tl.sqrt",
        c="square_root",
    ),
    Op.EXPONENTIAL: Operator(
        FLOAT,
        np.exp,
        1,
        function="exp",
        help="The exponential, of floats.",
        torch=".exp",
        triton="tl.exp",
        c="exponential",
    ),
    Op.LOGARITHM: Operator(
        FLOAT,
        np.log,
        1,
        function="log",
        help="The natural logarithm, of floats.",
        torch=".log",
        triton="tl.log",
        c="natural_logarithm",
    ),
    Op.TANH: Operator(
        FLOAT,
        np.tanh,
        1,
        function="tanh",
        help="The hyperbolic tangent, of floats.",
        torch=".tanh",
        triton="tanh",
        c="hyperbolic_tangent",
    ),
    Op.SIGMOID: Operator(
        FLOAT,
        _sigmoid,
        1,
        function="sigmoid",
        help="1 / (1 + exp(-x)), of floats.",
        torch=".sigmoid",
        triton="tl.sigmoid",
        c="sigmoid",
    ),
}


CALLED = {each.function: op for op, each in OPERATORS.items() if each.function}
OF_INTEGERS = {
    result: tuple(op for op in CALLED.values() if OPERATORS[op].types == INT and OPERATORS[op].result is result)
    for result in (None, Type.BOOL)
}
"""Functions of integers that give integers, and those that give booleans."""
TORCH_HELPERS = tuple(each.torch for each in OPERATORS.values() if each.torch and "." not in each.torch)
TRITON_HELPERS = tuple(each.triton for each in OPERATORS.values() if each.triton and "." not in each.triton)


def result_type(op: Op) -> Type | None:
    """The type of the result of `op`; None if it is that of the last operand."""
    return OPERATORS[op].result

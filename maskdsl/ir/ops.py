"""The operators of the IR and their types. Each later layer gives every one a meaning in one table or `match`."""

from enum import StrEnum, auto


class Type(StrEnum):
    INT = auto()
    FLOAT = auto()
    BOOL = auto()


class Op(StrEnum):
    """Operators by meaning, not by symbol. Integers are exact 64-bit ones; floats are 64-bit in relations."""

    # numbers: both operands of one type, the result of that type
    ADD = auto()
    SUBTRACT = auto()
    MULTIPLY = auto()
    DIVIDE = auto()  # floats only
    FLOOR_DIVIDE = auto()  # rounds toward minus infinity; the divisor is proven non-zero at bind
    FLOOR_MODULO = auto()  # has the sign of the divisor
    NEGATE = auto()
    POWER = auto()  # the exponent is a `Constant`; a non-negative one for integers
    ABSOLUTE = auto()
    MINIMUM = auto()
    MAXIMUM = auto()

    # comparisons of two numbers of one type (== and != also of booleans); > and >= are written with swapped operands
    EQUAL = auto()
    NOT_EQUAL = auto()
    LESS = auto()
    LESS_EQUAL = auto()

    # booleans; AND and OR take two or more operands
    NOT = auto()
    AND = auto()
    OR = auto()

    SELECT = auto()  # condition, then, otherwise

    # integers
    INTEGER_LOG2 = auto()  # floor of log2; -1 for x < 1
    IS_POWER_OF_TWO = auto()  # false for x < 1
    SHARE_BIT = auto()  # two integers have a one in the same place, of two's complement
    RANDOM = auto()  # seed, a, b, ...: see `ir/random.py`

    # floats
    TO_FLOAT = auto()  # of an integer
    SQUARE_ROOT = auto()
    EXPONENTIAL = auto()
    LOGARITHM = auto()
    TANH = auto()
    SIGMOID = auto()


COMPARISONS = frozenset({Op.EQUAL, Op.NOT_EQUAL, Op.LESS, Op.LESS_EQUAL})


def result_type(op: Op) -> Type | None:
    """The type that `op` always has; None where it is that of its last operand, which the binder has checked."""
    if op in COMPARISONS or op in (Op.NOT, Op.AND, Op.OR, Op.IS_POWER_OF_TWO, Op.SHARE_BIT):
        return Type.BOOL
    if op is Op.TO_FLOAT:
        return Type.FLOAT
    return None

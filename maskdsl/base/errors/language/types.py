"""E21x: errors of types and of arithmetic. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class TypeMismatch(Diagnostic):
    code = "E211"
    message = "{what} is {found}, where {expected} is expected"
    label = "{found}"

    what: str
    found: str
    expected: str


class BooleanArithmetic(Diagnostic):
    code = "E212"
    message = "a boolean is not a number"
    label = "a boolean"
    help = "write `1 if ... else 0`"


class IntegerDivision(Diagnostic):
    code = "E213"
    message = "`/` divides floats, and both of these are integers"
    label = "integers"
    help = "write `//` for the floor of the quotient, or `float(x)` to make a float"


class WrongExponent(Diagnostic):
    code = "E214"
    message = "the exponent of `**` must be {expected}"
    label = "{found}"

    expected: str
    found: str


class NotConstant(Diagnostic):
    code = "E215"
    message = "{what} must be known when the pattern is bound"
    label = "{reason}"

    what: str
    reason: str


class CurveArgument(Diagnostic):
    code = "E234"
    message = "the arguments of `{function}` must be names of axes"
    label = "{hint}"

    function: str
    hint: str


class PossibleZero(Diagnostic):
    code = "E239"
    message = "the divisor may be zero"
    label = "between {low} and {high}"
    help = "write `max(x, 1)` if it is never zero"

    low: int
    high: int


class Overflow(Diagnostic):
    code = "E240"
    message = "the result may not fit into 64 bits"
    label = "from {low} to {high}"
    help = "{advice}"

    low: str
    high: str
    advice: str = ""


class RoundsUnbounded(Diagnostic):
    code = "E313"
    message = "what `{function}` rounds must be a finite number"
    label = "infinite or not a number for some tokens"
    help = "bound it: divide by `max(x, 1)`, or write `clamp(x, low, high)`"

    function: str


class UnknownType(Diagnostic):
    code = "E241"
    message = "there is no type `{name}`"
    label = "{known}"

    name: str
    known: str


class DivisionByZero(Diagnostic):
    code = "E244"
    message = "division by zero"


class MixedSides(Diagnostic):
    code = "E247"
    message = "a curve needs axes of one token"
    label = "this mixes axes of the query and of the key"


class NotFinite(Diagnostic):
    code = "E253"
    message = "this number is {value} for all tokens"
    label = "a finite number is expected"
    help = "exclude keys from the relation instead of giving them a score of minus infinity"

    value: float

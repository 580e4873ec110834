"""E21x: what can be wrong with the types and the arithmetic of expressions. Raised by `bind`."""

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
    message = "booleans are no numbers"
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
    label = "this depends on {depends}"

    what: str
    depends: str


class CurveArgument(Diagnostic):
    code = "E234"
    message = "`{function}` takes plain axes"
    label = "{hint}"

    function: str
    hint: str


class PossibleZero(Diagnostic):
    code = "E239"
    message = "the divisor may be zero"
    label = "between {low} and {high}"
    help = "write `max(x, 1)` where it cannot be zero in truth"

    low: int
    high: int


class Overflow(Diagnostic):
    code = "E240"
    message = "the result may leave 64 bits"
    label = "up to {high}, down to {low}"

    low: str
    high: str


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
    message = "a curve belongs to one token"
    label = "the axes of the query and of the key are mixed"


class NotFinite(Diagnostic):
    code = "E253"
    message = "this number is {value}, whatever the tokens"
    label = "a finite number is expected"
    help = "keys that are not to attend are left out of the relation, not given a score of minus infinity"

    value: float

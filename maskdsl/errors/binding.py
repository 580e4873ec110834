"""E2xx and E3xx: what can be wrong with the meaning of a pattern, and limits that it may pass. Raised by `bind`."""

from maskdsl.diagnostics import Diagnostic


class UnknownPattern(Diagnostic):
    code = "E201"
    message = "there is no pattern `{name}`"
    help = "{known}"

    name: str
    known: str


class UnknownParameter(Diagnostic):
    code = "E202"
    message = "`{pattern}` has no parameter `{name}`"
    label = "its parameters are declared here"

    pattern: str
    name: str


class MissingParameter(Diagnostic):
    code = "E203"
    message = "the parameter `{name}` of `{pattern}` has no value"
    label = "declared here, without a default"
    help = "bind it with {name}=..."

    pattern: str
    name: str


class WrongParameter(Diagnostic):
    code = "E204"
    message = "the parameter `{name}` is {found}"
    label = "{expected} is expected"

    name: str
    found: str
    expected: str


class UnknownName(Diagnostic):
    code = "E205"
    message = "unknown name `{name}`"
    label = "{hint}"

    name: str
    hint: str


class UnknownFunction(Diagnostic):
    code = "E206"
    message = "there is no function or macro `{name}`"

    name: str


class UnknownCoordinate(Diagnostic):
    code = "E207"
    message = "no token has a coordinate `{name}`"
    label = "{known}"

    name: str
    known: str


class MissingCoordinate(Diagnostic):
    code = "E208"
    message = "tokens of {spaces} have no coordinate `{name}`"
    label = "the {side} may be one of them"
    help = "{hint}"

    name: str
    spaces: str
    side: str
    hint: str


class DuplicateName(Diagnostic):
    code = "E209"
    message = "`{name}` is declared twice"
    label = "{kind}"

    name: str
    kind: str


class ReservedName(Diagnostic):
    code = "E210"
    message = "`{name}` is reserved and cannot be declared"

    name: str


class NameOfArgument(Diagnostic):
    code = "E248"
    message = "{kind} cannot be called `{name}`"
    label = "Python has another argument of this name"

    name: str
    kind: str


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


class MissingArgument(Diagnostic):
    code = "E216"
    message = "`{function}` needs a value for `{name}`"
    label = "missing here"

    function: str
    name: str


class UnknownArgument(Diagnostic):
    code = "E217"
    message = "`{function}` has no parameter `{name}`"

    function: str
    name: str


class TooManyArguments(Diagnostic):
    code = "E218"
    message = "`{function}` takes {most}, and {given} are given"

    function: str
    most: str
    given: int


class RepeatedArgument(Diagnostic):
    code = "E219"
    message = "`{name}` is given twice"

    name: str


class MacroRecursion(Diagnostic):
    code = "E220"
    message = "`{name}` is expanded within itself"
    label = "macros cannot be recursive"

    name: str


class UnknownSpace(Diagnostic):
    code = "E221"
    message = "there is no space `{name}`"
    label = "{known}"

    name: str
    known: str


class NotInSequence(Diagnostic):
    code = "E222"
    message = "`{name}` is none of the spaces of the {sequence}"
    label = "{known}"

    name: str
    sequence: str
    known: str


class BadSequences(Diagnostic):
    code = "E223"
    message = "{what}"
    label = "{hint}"

    what: str
    hint: str


class NoAttend(Diagnostic):
    code = "E224"
    message = "the pattern `{name}` attends nothing"
    label = "it has no `attend` line"
    help = "`attend all -> all` attends everything"

    name: str


class AssertFailed(Diagnostic):
    code = "E225"
    message = "{text}"
    label = "this does not hold"

    text: str


class BadLength(Diagnostic):
    code = "E226"
    message = "{what} is {value}"
    label = "at least 1 is expected"

    what: str
    value: int


class TupleLength(Diagnostic):
    code = "E227"
    message = "a tuple of {found}, where {expected} are expected"
    label = "{hint}"

    found: int
    expected: int
    hint: str


class NoCommonAxes(Diagnostic):
    code = "E228"
    message = "a tuple stands for the axes of one space, and {reason}"
    label = "it is not plain which axes are meant"
    help = "name the axis, as in `{function}(7, axis = y)`, or say which spaces are meant, as in `a -> a where ...`"

    reason: str
    function: str


class IndexCount(Diagnostic):
    code = "E229"
    message = "`{name}` takes {expected}, and {found} are given"
    label = "declared as {declared}"

    name: str
    expected: str
    found: int
    declared: str


class IndexOutOfBounds(Diagnostic):
    code = "E230"
    message = "the index is out of bounds: {low} to {high}, where 0 to {last} are allowed"
    label = "never inside"

    low: int
    high: int
    last: int


class ReadOutside(Diagnostic):
    code = "E235"
    message = "`{name}` is read outside its bounds: the index takes {low} to {high}, and there are entries 0 to {last}"
    label = "{value} {where}"
    help = (
        "give the table more entries, keep the index inside with `clamp(..., 0, {last})`, or let nobody attend there: "
        "what does not attend is not read"
    )

    name: str
    low: int
    high: int
    last: int
    value: int
    where: str


class NotIndexed(Diagnostic):
    code = "E231"
    message = "`{name}` is no table"
    label = "{hint}"

    name: str
    hint: str


class AmbiguousLength(Diagnostic):
    code = "E232"
    message = "`len({name})` has several values: {values}"
    label = "which tokens are meant is not plain"
    help = "name the space, as in `len({space}.{name})`"

    name: str
    values: str
    space: str


class NotAxis(Diagnostic):
    code = "E233"
    message = "an axis is expected"
    label = "the name of a coordinate stands here"
    help = "axes are named plainly: `window(7, axis = y)`"


class PythonRange(Diagnostic):
    code = "E249"
    message = "there is no function `range`"
    label = "a range has two dots"
    help = "write `0 .. {end}`, without its end"

    end: str


class CurveArgument(Diagnostic):
    code = "E234"
    message = "`{function}` takes plain axes"
    label = "{hint}"

    function: str
    hint: str


class UnknownPooling(Diagnostic):
    code = "E250"
    message = "`{name}` pools no tokens"
    label = "spaces are pooled by `mean` and `max`"

    name: str


class SpaceAsValue(Diagnostic):
    code = "E236"
    message = "`{name}` is a space"
    label = "no value"
    help = "`{name} -> all` says that the query is in it, `all -> {name}` the key"

    name: str


class NoPairHere(Diagnostic):
    code = "E237"
    message = "there is no query and no key here"
    label = "{hint}"

    hint: str


class NoScoreHere(Diagnostic):
    code = "E238"
    message = "`s` has a meaning in `score` only"
    label = "{hint}"

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


class WrongDimension(Diagnostic):
    code = "E245"
    message = "{what}"
    label = "{hint}"

    what: str
    hint: str


class OutsideQuantifier(Diagnostic):
    code = "E246"
    message = "{what} stands behind `for ... in` only"
    label = "no value"

    what: str


class MixedSides(Diagnostic):
    code = "E247"
    message = "a curve belongs to one token"
    label = "the axes of the query and of the key are mixed"


class TooManyTokens(Diagnostic):
    code = "E301"
    message = "{what} has {count} tokens"
    label = "at most {limit} are possible"

    what: str
    count: int
    limit: int


class TooManyAxes(Diagnostic):
    code = "E302"
    message = "the space `{name}` has {count} axes"
    label = "at most {limit} are possible"

    name: str
    count: int
    limit: int


class RangeTooLong(Diagnostic):
    code = "E303"
    message = "the range holds {count} integers"
    label = "at most {limit} are possible"

    count: int
    limit: int


class TooLarge(Diagnostic):
    code = "E304"
    message = "{what} too large, with all macros and ranges expanded"
    label = "the limit of {limit} parts is passed here"

    what: str
    limit: int


class TooDeep(Diagnostic):
    code = "E305"
    message = "expressions are nested more than {limit} deep, with all macros expanded"
    label = "in here"

    limit: int


class TooManyHeads(Diagnostic):
    code = "E306"
    message = "{count} heads"
    label = "between 1 and {limit} are possible"

    count: int
    limit: int


class TooManyErrors(Diagnostic):
    code = "E299"
    message = "there are more than {limit} errors; what comes behind them was not looked at"

    limit: int


class TooMany(Diagnostic):
    code = "E307"
    message = "{count:,} {what} are declared"
    label = "at most {limit} are possible"

    count: int
    what: str
    limit: int


class BracketsInWhere(Diagnostic):
    code = "E251"
    message = "`{word}` {side} a `where` needs brackets"
    label = "may be read in two ways"
    help = "write `{inside}`, or `{outside}`, which is what it meant before"

    word: str
    side: str
    inside: str
    outside: str


class NotFinite(Diagnostic):
    code = "E253"
    message = "this number is {value}, whatever the tokens"
    label = "a finite number is expected"
    help = "keys that are not to attend are left out of the relation, not given a score of minus infinity"

    value: float

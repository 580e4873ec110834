"""E23x: errors of tables and their entries, and E37x: of their vectors. Raised by `bind` and `analysis`."""

from maskdsl.base.diagnostics import Diagnostic


class IndexCount(Diagnostic):
    code = "E229"
    message = "`{name}` takes {expected}, and {found} given"
    label = "declared as {declared}"
    help = "{advice}"

    name: str
    expected: str
    found: str
    declared: str
    advice: str = ""


class IndexOutOfBounds(Diagnostic):
    code = "E230"
    message = "the index is out of bounds: {low} to {high}, where 0 to {last} are allowed"
    label = "{where}"
    help = "{advice}"

    low: int
    high: int
    last: int
    where: str
    advice: str = ""


class NotIndexed(Diagnostic):
    code = "E231"
    message = "`{name}` is not a table"
    label = "{hint}"

    name: str
    hint: str


class ReadOutside(Diagnostic):
    code = "E235"
    message = "`{name}` is read outside its bounds: the index is {low} to {high}, and the entries are 0 to {last}"
    label = "{value} {where}"
    help = (
        "give the table more entries, keep the index inside with `clamp(..., 0, {last})`, or exclude these pairs: "
        "tables are read for attending pairs only"
    )

    name: str
    low: int
    high: int
    last: int
    value: int
    where: str


class WrongDimension(Diagnostic):
    code = "E245"
    message = "{what}"
    label = "{hint}"

    what: str
    hint: str


class NoTokens(Diagnostic):
    code = "E128"
    message = "the input `{name}` has no dimensions, so it is no coordinate of tokens"
    label = "one value for all"
    help = "declare `input {name}: {kind}[tokens]` for one value a token, or read the one value as `{name}`"

    name: str
    kind: str


class NoVector(Diagnostic):
    code = "E370"
    message = "a vector is expected here"
    label = "this is {found}"
    help = (
        "vectors are `q`, `k`, inputs that are read with one index fewer than they have dimensions, such as "
        "`table[head, q - k]`, and sums and multiples of these"
    )

    found: str


class UnequalVectors(Diagnostic):
    code = "E371"
    message = "these vectors have different lengths: {one} and {two}"
    label = "{what} takes vectors of one length"

    one: str
    two: str
    what: str


class NoVectorLength(Diagnostic):
    code = "E372"
    message = "the last dimension of `{name}`, `{text}`, is no length of a vector"
    label = "this would be a vector of {text}"
    help = "declare the last dimension as `dim`, the head dimension, or as an integer"

    name: str
    text: str


class VectorOfPair(Diagnostic):
    code = "E373"
    message = "each element of this vector depends on the query and on the key"
    label = "`{function}` takes vectors of one of the two"
    help = "sums and multiples of any vectors can stand in `dot`: only functions of their elements cannot"

    function: str


class SeparateProducts(Diagnostic):
    code = "E374"
    message = "the score reads several products of the query and the key, and not in one sum"
    label = "this is one of them"
    help = (
        "products of vectors of the query and of the key are computed as one: add them, each times what depends on one "
        "of the two tokens, before other functions are applied to the sum"
    )


class DotArguments(Diagnostic):
    code = "E375"
    message = "`dot` takes two vectors, and {found} are given"
    label = "`dot(a, b)` is expected"

    found: int


class ArgumentNotInput(Diagnostic):
    code = "E256"
    message = "the argument `{name}` is not an input"
    label = "the name of an input is expected"
    help = "declare it, such as `input bias: float[heads, 64]`, and pass its name alone: `near(bias, 3)`"

    name: str


class ValueOfPair(Diagnostic):
    code = "E378"
    message = "a value is multiplied by what depends on the query and on the key"
    label = "in this value"
    help = (
        "write `weight` for what multiplies the whole of a pair; a vector of a table may have any factor, if a pair "
        "chooses it by an index that depends on the query"
    )

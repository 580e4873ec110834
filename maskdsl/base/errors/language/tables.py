"""E23x: errors of tables and their entries. Raised by `bind` and `analysis`."""

from maskdsl.base.diagnostics import Diagnostic


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

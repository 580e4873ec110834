"""E41x: errors of the inputs of a pattern in a call. Raised by `ir`, `runtime` and `analysis`."""

from maskdsl.base.diagnostics import Diagnostic


class MissingInput(Diagnostic):
    code = "E410"
    message = "the input `{name}` is missing"
    label = "declared here"
    help = "give it by its name in this call: {name}=..."

    name: str


class UnknownInput(Diagnostic):
    code = "E411"
    message = "`{pattern}` has no input `{name}`"
    label = "in this pattern"
    help = "{hint}"

    name: str
    pattern: str
    hint: str


class InputShape(Diagnostic):
    code = "E412"
    message = "the input `{name}` has the shape {found}, and is declared as {expected}"
    label = "declared here"
    help = "{hint}"

    name: str
    found: tuple[int, ...]
    expected: str
    hint: str = ""


class InputType(Diagnostic):
    code = "E413"
    message = "the input `{name}` is {found}, and is declared as `{expected}`"
    label = "declared here"

    name: str
    found: str
    expected: str


class InputRange(Diagnostic):
    code = "E414"
    message = "the input `{name}` holds {value}, which does not fit into a 32-bit integer"
    label = "declared here"

    name: str
    value: int


class TableRead(Diagnostic):
    code = "E423"
    message = "`{name}` is read outside its bounds: index {index} in a dimension of {length}"
    label = "for query {query} and key {key}, which attend"
    help = "keep the index inside with `clamp(...)`, or exclude these pairs: tables are read for attending pairs only"

    name: str
    index: int
    length: int
    query: int
    key: int


class GroupRange(Diagnostic):
    code = "E450"
    message = "the group number `{name}` of a token is {value}"
    help = "group numbers start at 0, and there are at most {count} groups"

    name: str
    value: int
    count: int


class InputReadOutside(Diagnostic):
    code = "E483"
    message = "these inputs read `{name}` outside its bounds: at index {value}, where its entries are 0 to {last}"
    label = "{value} {where}"
    help = (
        "keep the index inside with `clamp(..., 0, {last})`, or exclude these pairs: tables are read for attending "
        "pairs only"
    )

    name: str
    value: int
    last: int
    where: str

"""E41x: what can be wrong with the inputs of a pattern in a call. Raised by `ir`, `runtime` and `analysis`."""

from maskdsl.base.diagnostics import Diagnostic


class MissingInput(Diagnostic):
    code = "E410"
    message = "the input `{name}` is missing"
    label = "declared here"
    help = "call attention(q, k, v, {name}=...)"

    name: str


class UnknownInput(Diagnostic):
    code = "E411"
    message = "`{pattern}` has no input `{name}`"
    label = "in this pattern"

    name: str
    pattern: str


class InputShape(Diagnostic):
    code = "E412"
    message = "the input `{name}` has the shape {found}, and {expected} is declared"
    label = "declared here"

    name: str
    found: tuple[int, ...]
    expected: str


class InputType(Diagnostic):
    code = "E413"
    message = "the input `{name}` is {found}, and `{expected}` is declared"
    label = "declared here"

    name: str
    found: str
    expected: str


class InputRange(Diagnostic):
    code = "E414"
    message = "the input `{name}` holds {value}, which is outside the 32-bit integers"
    label = "declared here"

    name: str
    value: int


class TableRead(Diagnostic):
    code = "E423"
    message = "`{name}` is read outside its bounds: index {index} of a dimension of {length}"
    label = "by query {query} and key {key}, which attend"

    name: str
    index: int
    length: int
    query: int
    key: int


class GroupRange(Diagnostic):
    code = "E450"
    message = "the group `{name}` of a token is {value}"
    help = "groups are numbered from 0, and there are at most {count}"

    name: str
    value: int
    count: int


class InputReadOutside(Diagnostic):
    code = "E483"
    message = "by its inputs, `{name}` is read outside its bounds: index {value}, and there are entries 0 to {last}"
    label = "{value} {where}"
    help = "keep it inside with `clamp(..., 0, {last})`, or let nobody attend there: what does not attend is not read"

    name: str
    value: int
    last: int
    where: str

"""E30x: errors of size: limits on what a pattern may hold. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class TooManyErrors(Diagnostic):
    code = "E299"
    message = "there are more than {limit} errors, and the text after them was not checked"

    limit: int


class TooLong(Diagnostic):
    code = "E301"
    message = "{what} has {count} tokens"
    label = "at most {limit} are allowed"

    what: str
    count: int
    limit: int


class TooManyAxes(Diagnostic):
    code = "E302"
    message = "the space `{name}` has {count} axes"
    label = "at most {limit} are allowed"

    name: str
    count: int
    limit: int


class RangeTooLong(Diagnostic):
    code = "E303"
    message = "the range holds {count} integers"
    label = "at most {limit} are allowed"

    count: int
    limit: int


class TooLarge(Diagnostic):
    code = "E304"
    message = "{what} too large after all macros and ranges are expanded"
    label = "the limit of {limit} operations is exceeded here"

    what: str
    limit: int


class TooDeep(Diagnostic):
    code = "E305"
    message = "expressions are nested more than {limit} deep after all macros are expanded"
    label = "in here"

    limit: int


class TooManyHeads(Diagnostic):
    code = "E306"
    message = "an attention cannot have {count} heads"
    help = "give 1 to {limit} heads"

    count: int
    limit: int


class TooMany(Diagnostic):
    code = "E307"
    message = "{count:,} {what} are declared"
    label = "at most {limit} are allowed"

    count: int
    what: str
    limit: int

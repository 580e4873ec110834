"""E30x: what can be wrong with sizes: limits of what a pattern may hold. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class TooManyErrors(Diagnostic):
    code = "E299"
    message = "there are more than {limit} errors; what comes behind them was not looked at"

    limit: int


class TooLong(Diagnostic):
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


class TooMany(Diagnostic):
    code = "E307"
    message = "{count:,} {what} are declared"
    label = "at most {limit} are possible"

    count: int
    what: str
    limit: int

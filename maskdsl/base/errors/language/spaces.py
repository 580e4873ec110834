"""E22x: errors of spaces, sequences and axes. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownSpace(Diagnostic):
    code = "E221"
    message = "there is no space `{name}`"
    label = "{known}"

    name: str
    known: str


class NotInSequence(Diagnostic):
    code = "E222"
    message = "`{name}` is not one of the spaces of the {sequence}"
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


class BadLength(Diagnostic):
    code = "E226"
    message = "{what} is {value}"
    label = "at least {least} is expected"

    what: str
    value: int
    least: int = 1


class TupleLength(Diagnostic):
    code = "E227"
    message = "a tuple of {found} entries, where {expected} are expected"
    label = "{hint}"

    found: int
    expected: int
    hint: str


class NoCommonAxes(Diagnostic):
    code = "E228"
    message = "a tuple stands for the axes of one space, and {reason}"
    label = "it is not clear which axes are meant"
    help = "name the axis, as in `{function}(7, axis = y)`, or say which spaces are meant, as in `a -> a where ...`"

    reason: str
    function: str


class AmbiguousLength(Diagnostic):
    code = "E232"
    message = "`len({name})` has several values: {values}"
    label = "it is not clear which tokens are meant"
    help = "name the space, as in `len({space}.{name})`"

    name: str
    values: str
    space: str


class NotAxis(Diagnostic):
    code = "E233"
    message = "the name of an axis is expected"
    label = "not the name of an axis"
    help = "write the name alone: `window(7, axis = y)`"


class UnknownPooling(Diagnostic):
    code = "E250"
    message = "`{name}` is not a way to pool tokens"
    label = "choose `mean`, `max` or `min`"

    name: str

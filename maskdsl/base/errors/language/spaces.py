"""E22x: what can be wrong with spaces, sequences and axes. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


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


class UnknownPooling(Diagnostic):
    code = "E250"
    message = "`{name}` pools no tokens"
    label = "spaces are pooled by `mean` and `max`"

    name: str

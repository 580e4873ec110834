"""E20x: what can be wrong with names: unknown, declared twice, reserved, out of place. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


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


class MacroRecursion(Diagnostic):
    code = "E220"
    message = "`{name}` is expanded within itself"
    label = "macros cannot be recursive"

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


class OutsideQuantifier(Diagnostic):
    code = "E246"
    message = "{what} stands behind `for ... in` only"
    label = "no value"

    what: str


class NameOfArgument(Diagnostic):
    code = "E248"
    message = "{kind} cannot be called `{name}`"
    label = "Python has another argument of this name"

    name: str
    kind: str


class PythonRange(Diagnostic):
    code = "E249"
    message = "there is no function `range`"
    label = "a range has two dots"
    help = "write `0 .. {end}`, without its end"

    end: str

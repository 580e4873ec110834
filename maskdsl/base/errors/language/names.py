"""E20x: errors of names: unknown, declared twice, reserved, not allowed here. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownName(Diagnostic):
    code = "E205"
    message = "unknown name `{name}`"
    label = "{hint}"
    help = "{advice}"

    name: str
    hint: str
    advice: str = ""


class UnknownFunction(Diagnostic):
    code = "E206"
    message = "there is no function or macro `{name}`"
    help = "{advice}"

    name: str
    advice: str = ""


class UnknownCoordinate(Diagnostic):
    code = "E207"
    message = "no token has a coordinate `{name}`"
    label = "{known}"
    help = "{advice}"

    name: str
    known: str
    advice: str = ""


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
    help = "choose another name; `{name}` itself can be read without a declaration"

    name: str


class MacroRecursion(Diagnostic):
    code = "E220"
    message = "the macro `{name}` calls itself"
    label = "macros cannot be recursive"

    name: str


class SpaceAsValue(Diagnostic):
    code = "E236"
    message = "`{name}` is a space, not a value"
    label = "a space"
    help = "write `{name} -> all` for queries in it, `all -> {name}` for keys in it"

    name: str


class NoPairHere(Diagnostic):
    code = "E237"
    message = "there is no query and no key here"
    label = "{hint}"

    hint: str


class NoScoreHere(Diagnostic):
    code = "E238"
    message = "`s` can be used in `score` only"
    label = "{hint}"

    hint: str


class HeadDimHere(Diagnostic):
    code = "E255"
    message = "`dim` cannot be read here"
    label = "the head dimension is known in calls only"
    help = "`score`, `scale`, `weight` and the scores of routes can read it; elsewhere, make it a parameter"


class OutsideQuantifier(Diagnostic):
    code = "E246"
    message = "{what} can be used after `for ... in` only"
    label = "not a value"

    what: str


class NameOfArgument(Diagnostic):
    code = "E248"
    message = "{kind} cannot be called `{name}`"
    label = "Python calls use this name for another argument"
    help = "choose another name"

    name: str
    kind: str


class PythonRange(Diagnostic):
    code = "E249"
    message = "there is no function `range`"
    label = "a range is written with two dots"
    help = "write `0 .. {end}`, which excludes its end"

    end: str

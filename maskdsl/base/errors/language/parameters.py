"""Errors of values for parameters, of patterns and of macros. Raised by `bind` and `runtime`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownParameter(Diagnostic):
    code = "E202"
    message = "`{pattern}` has no parameter `{name}`"
    label = "its parameters are declared here"
    help = "{known}"

    pattern: str
    name: str
    known: str


class MissingParameter(Diagnostic):
    code = "E203"
    message = "the parameter `{name}` of `{pattern}` has no value"
    label = "declared here, without a default"
    help = "bind it with {name}=..."

    pattern: str
    name: str


class WrongParameter(Diagnostic):
    code = "E204"
    message = "the parameter `{name}` is {found}"
    label = "{expected} is expected"
    help = "{hint}"

    name: str
    found: str
    expected: str
    hint: str = ""


class MissingArgument(Diagnostic):
    code = "E216"
    message = "`{function}` needs a value for `{name}`"
    label = "missing here"

    function: str
    name: str


class UnknownArgument(Diagnostic):
    code = "E217"
    message = "`{function}` has no parameter `{name}`"
    label = "{known}"

    function: str
    name: str
    known: str


class TooManyArguments(Diagnostic):
    code = "E218"
    message = "`{function}` takes {most}, and {given} are given"

    function: str
    most: str
    given: int


class RepeatedArgument(Diagnostic):
    code = "E219"
    message = "`{name}` is given twice"

    name: str


class InputParameter(Diagnostic):
    code = "E257"
    message = "the parameter `{name}` is an input, which calls give"
    label = "only macros take inputs"
    help = "declare it in the pattern, such as `input {name}: float[heads, 64]`"

    name: str

"""E46x: what can be wrong with the arguments of a function of Python. Raised by all that has such functions."""

from maskdsl.base.diagnostics import Diagnostic


class WrongFollow(Diagnostic):
    code = "E429"
    message = "{found} cannot be followed"
    help = "follow one parameter, the number of tokens, or two: the numbers of queries and of keys"

    found: str


class FollowedGiven(Diagnostic):
    code = "E430"
    message = "`{name}` follows the lengths of tensors, and a value is given too"
    label = "this parameter"

    name: str


class WrongArgument(Diagnostic):
    code = "E460"
    message = "the argument `{name}` is {found}"
    help = "{expected} is expected"

    name: str
    found: str
    expected: str


class WrongCall(Diagnostic):
    code = "E461"
    message = "`{name}` is called with other arguments than it has: {reason}"
    help = "call it as `{called}`; parameters of patterns and inputs are given by name, such as n=64"

    name: str
    reason: str
    called: str


class OutsideMap(Diagnostic):
    code = "E462"
    message = "there is no {what} {number}"
    help = "they are 0 to {last}"

    what: str
    number: int
    last: int


class NotCompiled(Diagnostic):
    code = "E463"
    message = "a {kind} is not called, but what it is compiled to"
    help = "attention = {compiled}; out = attention(q, k, v)"

    kind: str
    compiled: str


class PatternAsAttribute(Diagnostic):
    code = "E464"
    message = "a module has no attribute `{name}`"
    help = "patterns and stacks are found by name, such as {found}; here are {names}"

    name: str
    found: str
    names: str

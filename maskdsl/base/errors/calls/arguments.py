"""E46x: errors of the arguments of Python functions. Raised by all public functions."""

from maskdsl.base.diagnostics import Diagnostic


class WrongFollow(Diagnostic):
    code = "E429"
    message = "`follow` names {found}"
    help = "name the parameter that is the number of tokens, or two parameters: the numbers of queries and of keys"

    found: str


class FollowedGiven(Diagnostic):
    code = "E430"
    message = "`{name}` follows the lengths of tensors, but a value is given for it too"
    label = "this parameter"
    help = "leave the value out, or take `{name}` out of `follow`"

    name: str


class WrongArgument(Diagnostic):
    code = "E460"
    message = "the argument `{name}` is {found}"
    help = "give {expected}"

    name: str
    found: str
    expected: str


class WrongCall(Diagnostic):
    code = "E461"
    message = "the arguments of `{name}` are wrong: {reason}"
    help = "call it as `{called}`; give parameters of patterns and inputs by name, such as n=64"

    name: str
    reason: str
    called: str


class OutsideMap(Diagnostic):
    code = "E462"
    message = "there is no {what} {number}"
    help = "they are numbered 0 to {last}"

    what: str
    number: int
    last: int


class NotCompiled(Diagnostic):
    code = "E463"
    message = "a {kind} cannot be called before it is compiled"
    help = "attention = {compiled}; out = attention(q, k, v)"

    kind: str
    compiled: str


class PatternAsAttribute(Diagnostic):
    code = "E464"
    message = "a module has no attribute `{name}`"
    help = "look patterns and stacks up by name, such as {found}; this module has {names}"

    name: str
    found: str
    names: str


class ChangedInput(Diagnostic):
    code = "E465"
    message = "the input `{name}` has changed since it was prepared"
    help = "prepare again after a change: attend = attention.prepare(...); or call attention(q, k, v, ...) itself"

    name: str


class PreparedInput(Diagnostic):
    code = "E466"
    message = "the input `{name}` is given, but it was prepared"
    help = "leave it out, or prepare another: attend = attention.prepare({name}=...)"

    name: str

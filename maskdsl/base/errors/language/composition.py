"""E44x: errors of patterns that are composed in Python, `a & b`, `a | b` and `~a`."""

from maskdsl.base.diagnostics import Diagnostic


class OtherTokens(Diagnostic):
    code = "E445"
    message = "`{first}` and `{second}` have different tokens"
    label = "the tokens of `{second}`"
    help = "patterns are composed whose `space`, `tokens`, `queries` and `keys` are the same, parameters included"

    first: str
    second: str


class NameClash(Diagnostic):
    code = "E446"
    message = "`{name}` means one thing in `{first}` and another in `{second}`"
    label = "in `{second}`"
    help = "give one of them another name"

    name: str
    first: str
    second: str


class BranchedOperand(Diagnostic):
    code = "E297"
    message = "`{name}` has branches, and patterns with branches are not composed"
    label = "this pattern"
    help = "compose what stands in its branches"

    name: str


class ScoreClash(Diagnostic):
    code = "E447"
    message = "`{first}` and `{second}` change scores differently"
    label = "in `{second}`"
    help = "both must change them alike; for `&` one of them may leave them as they are"

    first: str
    second: str


class OrderClash(Diagnostic):
    code = "E448"
    message = "`{first}` and `{second}` lay tokens out in different orders"
    label = "in `{second}`"
    help = "remove one of the orders, which change no result"

    first: str
    second: str


class ValueClash(Diagnostic):
    code = "E449"
    message = "{what} {values}"
    help = "bind both with the same value, or give the parameters of one pattern other names"

    what: str
    values: str


class WrongOperand(Diagnostic):
    code = "E495"
    message = "a {expected} is composed with `{found}`, which is no {expected}"
    help = "compose patterns with patterns, and masks, which `bind` makes, with masks"

    found: str
    expected: str

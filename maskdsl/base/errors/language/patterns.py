"""Errors of a pattern as a whole, and of its branches (E29x). Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class NoSuchPattern(Diagnostic):
    code = "E201"
    message = "there is no pattern `{name}`"
    help = "{known}"

    name: str
    known: str


class NoAttend(Diagnostic):
    code = "E224"
    message = "the {kind} `{name}` attends nothing"
    label = "it has no `attend` line"
    help = "`attend all -> all` attends everything"

    name: str
    kind: str = "pattern"


class NoOrder(Diagnostic):
    code = "E254"
    message = "`{text}` is not an order"
    help = (
        'write "by" and coordinates, such as "by hilbert(y, x)" or "image by y // 8, x // 8"; or "auto", or "declared"'
    )

    text: str


class AssertFailed(Diagnostic):
    code = "E225"
    message = "{text}"
    label = "this does not hold"

    text: str


class OutsideBranches(Diagnostic):
    code = "E291"
    message = "`{word}` stands outside of the branches"
    label = "each branch says its own"
    help = "write it in the branches that it is for; lines outside hold in every branch"

    word: str


class NotInBranch(Diagnostic):
    code = "E292"
    message = "`{word}` cannot stand in a branch"
    label = "it is the same for all branches"
    help = "write it outside of the branches"

    word: str


class NoBranch(Diagnostic):
    code = "E293"
    message = "the pattern `{name}` has no branch"
    label = "none of its ranges has a number"
    help = "a range `a .. b` has the integers from a to b, b excluded"

    name: str


class ManyBranches(Diagnostic):
    code = "E294"
    message = "the pattern `{name}` has {count} branches"
    label = "at most {limit} are allowed"

    name: str
    count: int
    limit: int


class FollowedBranches(Diagnostic):
    code = "E296"
    message = "the number of branches of `{name}` follows the lengths of its tensors"
    label = "there are {found} branches at these lengths, and {known} were compiled"
    help = "give the range another parameter, or compile a mask of fixed lengths: pattern.bind(...).compile()"

    name: str
    found: int
    known: int


class DomainOfBranches(Diagnostic):
    code = "E295"
    message = "branches are numbered by a range of integers"
    label = "this is no range"
    help = "write `branch {name} for {variable} in 0 .. 9`"

    name: str
    variable: str

"""Errors of a pattern as a whole. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class NoSuchPattern(Diagnostic):
    code = "E201"
    message = "there is no pattern `{name}`"
    help = "{known}"

    name: str
    known: str


class NoAttend(Diagnostic):
    code = "E224"
    message = "the pattern `{name}` attends nothing"
    label = "it has no `attend` line"
    help = "`attend all -> all` attends everything"

    name: str


class AssertFailed(Diagnostic):
    code = "E225"
    message = "{text}"
    label = "this does not hold"

    text: str

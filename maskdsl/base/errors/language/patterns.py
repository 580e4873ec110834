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

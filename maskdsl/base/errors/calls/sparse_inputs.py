"""E39x: errors of sparse inputs in a call. Raised by `ir`, `analysis` and `runtime`."""

from maskdsl.base.diagnostics import Diagnostic


class NotAList(Diagnostic):
    code = "E393"
    message = "the input `{name}` is sparse, and {found} is no list of entries"
    label = "declared here"
    help = "{hint}"

    name: str
    found: str
    hint: str


class WrongLists(Diagnostic):
    code = "E394"
    message = "the {what} of the sparse input `{name}` have the shape {found}, and {expected} is needed"
    label = "declared here"

    name: str
    what: str
    found: tuple[int, ...]
    expected: str


class UnsortedStarts(Diagnostic):
    code = "E395"
    message = "the row starts of the sparse input `{name}` {what}"
    label = "declared here"
    help = "row `r` has the columns `starts[r]` to `starts[r + 1]`: starts begin with 0 and do not fall"

    name: str
    what: str


class EntryOutside(Diagnostic):
    code = "E396"
    message = "the sparse input `{name}` has an entry in {what} {found}, and {what}s are 0 to {last}"
    label = "declared here"

    name: str
    what: str
    found: int
    last: int


class RepeatedEntry(Diagnostic):
    code = "E397"
    message = (
        "the sparse input `{name}` has two entries in row {row} and column {column}, and `{numbers}` a number of each"
    )
    label = "declared here"
    help = "give each entry once: `torch.sparse_coo_tensor(...).coalesce()` adds up numbers of equal entries"

    name: str
    row: int
    column: int
    numbers: str


class NumbersOfNoList(Diagnostic):
    code = "E398"
    message = "`{name}` has a number of each entry of `{sparse}`: {found} numbers are given, and {expected} entries"
    label = "declared here"

    name: str
    sparse: str
    found: int
    expected: int


class NumberOfNoEntry(Diagnostic):
    code = "E399"
    message = "`{name}` has a number of each entry of `{sparse}`, and a pair that attends is no entry"
    label = "read {where}"
    help = "let only entries attend, as in `attend {text}`, or read no number elsewhere: `... if {text} else 0.0`"

    name: str
    sparse: str
    where: str
    text: str

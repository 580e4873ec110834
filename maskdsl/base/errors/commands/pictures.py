"""E56x: errors of pictures written to files. Raised by `cli`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownPicture(Diagnostic):
    code = "E560"
    message = "`{file}` does not end in a known picture format"
    help = "name a file that ends in {known}"

    file: str
    known: str


class NeedsOut(Diagnostic):
    code = "E562"
    message = "`{option}` only works for pictures in files"
    help = "add --out map.png, map.svg or map.pdf"

    option: str


class NoRanks(Diagnostic):
    code = "E565"
    message = "`--ranks` colours the tiles of maps, and does not go with `{option}`"
    help = "{advice}"

    option: str
    advice: str


class TooLargeToDraw(Diagnostic):
    code = "E564"
    message = "`{pattern}` has {count} keys, and at most {limit} can be drawn around a query"
    help = "draw it at smaller parameters"

    pattern: str
    count: int
    limit: int

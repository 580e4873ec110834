"""W0xx: warnings about patterns that have a meaning. Nothing raises them; `bind` keeps them with the mask."""

from maskdsl.base.diagnostics import Caution


class UnlikePositions(Caution):
    code = "W001"
    message = "positions of two sequences are compared: `q` in {queries}, `k` in {keys}"
    label = "`q` and `k` count different tokens"
    help = "{hint}"

    queries: str
    keys: str
    hint: str


class UnknownAllowance(Caution):
    code = "W002"
    message = "no warning has the code `{name}`"
    label = "this allows nothing"
    help = "the codes of warnings are {known}"

    name: str
    known: str


CODES = tuple(each.code for each in Caution.__subclasses__() if each.__module__ == __name__)
"""Of all warnings."""

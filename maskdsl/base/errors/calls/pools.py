"""E33x: errors of spaces that are pooled by a coordinate, of pooled queries, of draws. Raised by `bind` and calls."""

from maskdsl.base.diagnostics import Diagnostic


class PoolNumber(Diagnostic):
    code = "E330"
    message = "the pool number `{name}` of a token is {value}, and `{space}` has no such pool"
    label = "its pools are 0 to {last}"
    help = "a token in no pool has a negative number; the number of pools stands behind the coordinate"

    name: str
    value: int
    space: str
    last: int


class PoolCount(Diagnostic):
    code = "E331"
    message = "how many pools `{name}` makes is not known before a call"
    label = "{reason}"
    help = "write how many: `{pooling}({source} by {name}, 64)`"

    name: str
    reason: str
    pooling: str
    source: str


class NoPoolCoordinate(Diagnostic):
    code = "E332"
    message = "tokens of `{source}` cannot be pooled by {what}"
    label = "{hint}"

    source: str
    what: str
    hint: str


class PooledQueriesPart(Diagnostic):
    code = "E333"
    message = "`{pattern}` pools its queries, so a call needs all of them"
    help = "call it with all queries and keys: without `query_start`, `key_lengths`, pages or packed sequences"

    pattern: str


class DrawnGroups(Diagnostic):
    code = "E334"
    message = "a draw tells the {side} apart by several coordinates: {names}"
    label = "groups are made by one coordinate"
    help = "read one coordinate of the {side}, or combine them into one: coord c = a * len(b) + b"

    side: str
    names: str


class DrawKnown(Diagnostic):
    code = "E335"
    message = "{what} of a draw must be known when the pattern is bound"
    label = "{reason}"
    help = "a draw reads no tensors: coordinates that are computed, `head` and parameters"

    what: str
    reason: str

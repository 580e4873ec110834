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


class AttendsNothing(Caution):
    code = "W003"
    message = "`{name}` attends nothing"
    label = "no query has a key, whatever the inputs"
    help = "look at its `attend` and `require` lines: outputs are zeros"

    name: str


class LineWithoutPairs(Caution):
    code = "W004"
    is_of_text = True
    message = "this line attends nothing"
    label = "it holds for no pair"
    help = "correct it, or leave it out"


class CoveredLine(Caution):
    code = "W005"
    is_of_text = True
    message = "this line adds nothing"
    label = "{others} all of its pairs"
    help = "leave it out, or cut all lines down by `require`"

    others: str


class IdleRequire(Caution):
    code = "W006"
    is_of_text = True
    message = "this line cuts nothing"
    label = "it holds for all pairs that attend"
    help = "leave it out"


class UnusedParameter(Caution):
    code = "W007"
    is_of_text = True
    message = "nothing reads the parameter `{name}`"
    label = "declared here"
    help = "leave it out"

    name: str


class UnusedInput(Caution):
    code = "W008"
    is_of_text = True
    message = "nothing reads the input `{name}`"
    label = "declared here"
    help = "leave it out; calls need not give it"

    name: str


class QueriesWithoutKeys(Caution):
    code = "W009"
    is_of_text = True
    message = "not every query of `{name}` has a key: query {position} has none"
    label = "in this pattern"
    help = "their outputs are zeros; `attend q == k` lets every query attend itself"

    name: str
    position: int


class TooSmall(Caution):
    code = "W010"
    message = "`{macro}` holds for no pair: `{name}` is {value}"
    label = "in this call"
    help = "`{name}` is at least {least} where something is to attend"

    macro: str
    name: str
    value: int
    least: int


class EvenWindow(Caution):
    code = "W011"
    is_of_text = True
    message = "`window({size})` attends {keys} keys: {half} on either side of the query, and its own"
    label = "an even size"
    help = "write `window({keys})`, which is the same, or `neighborhood({size})` for {size} keys"

    size: int
    keys: int
    half: int


class LargeNeighborhood(Caution):
    code = "W012"
    is_of_text = True
    message = "a neighbourhood of {size} is larger than the axis `{axis}`, which has {length} positions{group}"
    label = "all of them are attended"
    help = "give a size of {length} at most"

    size: int
    axis: str
    length: int
    group: str


class NothingDeclared(Caution):
    code = "W013"
    is_of_text = True
    message = "the file declares nothing"
    help = "declare a pattern: `pattern name(n = 4096) {{ space tokens[n] attend causal }}`"


class SlowerThanDense(Caution):
    code = "W014"
    message = "`{name}` is predicted to be slower than dense attention: {speedups}"
    label = "this pattern"
    help = "too few tiles are empty, or too few are full: `maskdsl order` looks for an order with less of both"

    name: str
    speedups: str


class NothingCausal(Caution):
    code = "W015"
    is_of_text = True
    message = "nothing is causal under `normalize softmax by k`: queries share the probability of each key"
    label = "later queries change what earlier ones get"
    help = "leave `normalize` out for a causal model; where the line only chooses pairs, write `# allow: W015`"


class LooksAhead(Caution):
    code = "W016"
    is_of_text = True
    message = "the relation is causal, and what `{route}` selects is not"
    label = "{reason}"
    help = "a model trained with it cannot decode; where that is meant, write `# allow: W016` and say so"

    route: str
    reason: str


CODES = tuple(each.code for each in Caution.__subclasses__() if each.__module__ == __name__)
"""Of all warnings."""

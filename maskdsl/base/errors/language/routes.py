"""E28x: errors of routes and ranks. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownSelector(Diagnostic):
    code = "E280"
    message = "there is no selector `{name}`"
    label = "the selectors are `topk`, `topp`, `above`, `nearest`, `balanced` and `draw`"

    name: str


class OutsideRoute(Diagnostic):
    code = "E281"
    message = "`dot` can be used in the score of a route only"
    label = "this is not the score of a route"


class WrongPool(Diagnostic):
    code = "E282"
    message = "this is not a vector of a token or of a group of tokens"
    label = "{forms} is expected"

    forms: str


class WrongScope(Diagnostic):
    code = "E283"
    message = "the mass is taken in each query group, or in a whole head"
    label = "only `per = head` can be written here"


class MixedGroups(Diagnostic):
    code = "E284"
    message = "the score of a route reads several coordinates of the {side}: {names}"
    label = "groups are made by one coordinate"
    help = "pool by one coordinate, or combine them into one: coord c = a * len(b) + b"

    names: str
    side: str


class NegativeGroup(Diagnostic):
    code = "E285"
    message = "groups are numbered from 0, and `{name}` can be {low}"
    label = "a route pools by this"
    help = "add an offset, so that it is never negative"

    name: str
    low: int


class NotOfGroup(Diagnostic):
    code = "E286"
    message = "`{name}` has different values in one group of equal `{group}`"
    label = "scores and candidates may read only what all tokens of a group share"

    name: str
    group: str


class NoCentroids(Diagnostic):
    code = "E287"
    message = "this does not name centroids"
    label = "an input is expected, such as `input centroids: float[heads, clusters, dim]`"


class RankPlace(Diagnostic):
    code = "E288"
    message = "`rank` can only be the whole value of a coordinate"
    label = "write `coord place = rank(...)`, and read `place` here"


class OfNoGroup(Diagnostic):
    code = "E289"
    message = "`{name}` of the {side} is read, but the groups of this route do not depend on it"
    label = "only what the score reads or pools by can be read here"
    help = "let the score read it too, or write this condition where the route is used: attend picked and ..."

    name: str
    side: str


class UnnamedGroup(Diagnostic):
    code = "E290"
    message = "the score reads `{expression}` of the {side}, which has no name"
    label = "groups are made by a coordinate with a name"
    help = "name it, `coord place = {expression}`, and let the score read `{letter}.place`"

    expression: str
    side: str
    letter: str


class ReadsNoKey(Diagnostic):
    code = "E252"
    message = "the score of `{route}` reads {what}"
    label = "every key gets the same score"
    help = (
        "a route selects keys by what its score reads of them, such as `dot(q, k)` or `k.{name}`; to choose which "
        "queries attend, write a relation over `q.{name}`"
    )

    route: str
    what: str
    name: str

"""E28x: what can be wrong with routes and ranks. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownSelector(Diagnostic):
    code = "E280"
    message = "there is no selector `{name}`"
    label = "the selectors are `topk`, `topp`, `above`, `nearest` and `balanced`"

    name: str


class OutsideRoute(Diagnostic):
    code = "E281"
    message = "`dot` stands in the score of a route only"
    label = "here scores are not chosen from; what attends is scored as `s`"


class WrongPool(Diagnostic):
    code = "E282"
    message = "this is no vector of a group of tokens"
    label = "{forms} is expected"

    forms: str


class WrongScope(Diagnostic):
    code = "E283"
    message = "what shares the mass is each query group, or all of a head"
    label = "`over = head` is all that can be said here"


class MixedGroups(Diagnostic):
    code = "E284"
    message = "the score of a route reads {names} of the {side}"
    label = "one coordinate makes the groups that are scored"
    help = "pool by one coordinate, or make one of both: coord c = a * len(b) + b"

    names: str
    side: str


class NegativeGroup(Diagnostic):
    code = "E285"
    message = "groups are numbered from 0, and `{name}` can be {low}"
    label = "pooled by this"

    name: str
    low: int


class NotOfGroup(Diagnostic):
    code = "E286"
    message = "`{name}` has different values in one group of equal `{group}`"
    label = "what scores and candidates read must be of the whole group"

    name: str
    group: str


class NoCentroids(Diagnostic):
    code = "E287"
    message = "this names no centroids"
    label = "an input is expected: `input centroids: float[heads, clusters, dim]`"


class RankPlace(Diagnostic):
    code = "E288"
    message = "`rank` makes a coordinate of its own"
    label = "say `coord place = rank(...)` and read `place` here"


class OfNoGroup(Diagnostic):
    code = "E289"
    message = "`{name}` of the {side} is read, and the score does not tell them apart by it"
    label = "the score makes the groups that this can read"
    help = "let the score read it too, or say it where the route is attended: attend picked and ..."

    name: str
    side: str


class UnnamedGroup(Diagnostic):
    code = "E290"
    message = "the score reads `{position}` of the {side}, which has no name"
    label = "groups are those of a coordinate"
    help = "give it one, `coord place = {position}`, and let the score read `{letter}.place`"

    position: str
    side: str
    letter: str


class ReadsNoKey(Diagnostic):
    code = "E252"
    message = "the score of `{route}` reads {what}"
    label = "every key scores alike"
    help = (
        "a route selects keys by what is read of them, `dot(q, k)` or `k.{name}`; "
        "which queries attend is no selection, but a relation over `q.{name}`"
    )

    route: str
    what: str
    name: str

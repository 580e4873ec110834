"""E28x: errors of routes and ranks. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownSelector(Diagnostic):
    code = "E280"
    message = "there is no selector `{name}`"
    label = "the selectors are `topk`, `topp`, `above`, `nearest`, `balanced` and `draw`"

    name: str


class OutsideRoute(Diagnostic):
    code = "E281"
    message = "`{function}` can be used in {where} only"
    label = "this is no score"

    function: str
    where: str


class WrongPool(Diagnostic):
    code = "E282"
    message = "this is not a vector of a token or of a group of tokens"
    label = "{forms} is expected"

    forms: str


class WrongScope(Diagnostic):
    code = "E283"
    message = "these pairs do not compete: `per` names a group, the head or the batch entry"
    label = "{names}, `per = head` or `per = batch` is expected"

    names: str


class MixedGroups(Diagnostic):
    code = "E284"
    message = "the score of a route reads several coordinates of the {side}: {names}"
    label = "groups are made by one coordinate"
    help = "pool by one coordinate, or combine them into one: coord c = a * len(b) + b"

    names: str
    side: str


class WrongGather(Diagnostic):
    code = "E364"
    message = "`{function}` takes one score here, and says what is put together"
    label = "{expected}"

    function: str
    expected: str


class WhereInGather(Diagnostic):
    code = "E365"
    message = "`{function}` of a score is over the candidates, which the `where` of the route names"
    label = "only `softmax` has a `where` of its own"
    help = "write the condition behind the route: `route picked = topk(4, ...) where ...`"

    function: str


class WrongHeadPool(Diagnostic):
    code = "E366"
    message = "the heads of a score are put together all, or those that share a key head"
    label = "only `heads = all` and `heads = key_head` can be written here"


class WrongGroups(Diagnostic):
    code = "E367"
    message = "scores are put together by a coordinate of the query, of the key, or of both"
    label = "`by q.c`, `by k.c` or `by (q.c, k.c)` is expected"


class ArgumentOfPair(Diagnostic):
    code = "E368"
    message = "{what} is for all pairs that compete, and this differs between them"
    label = "it may depend on the head, and on the group whose pairs compete"

    what: str


class NoRouteOfName(Diagnostic):
    code = "E369"
    message = "there is no route `{name}`"
    label = "`causal(...)` takes the name of a route, or `all`"

    name: str
    nearest: str | None


class NotCausal(Diagnostic):
    code = "E381"
    message = "{text}"
    label = "this does not hold: {reason}"
    help = "`where` says what is compared; a group that still grows belongs behind `always`"

    text: str
    reason: str


class ScoreAndWeights(Diagnostic):
    code = "E382"
    message = "`topp` selects by the softmax of a score or by weights, not by both"
    label = "a score stands in front of these weights"


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


class OverlappingGroups(Diagnostic):
    code = "E383"
    message = "the groups of {side} that `{route}` would select overlap"
    label = "scored by groups with a `span`"
    help = "put the scores together by groups that do not overlap: `max(score by {by})`"

    route: str
    side: str
    by: str

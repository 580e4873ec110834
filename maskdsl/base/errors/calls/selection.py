"""E45x: errors of calls that select pairs by queries and keys. Raised by `runtime` and `ir`."""

from maskdsl.base.diagnostics import Diagnostic


class LaidOutPooled(Diagnostic):
    code = "E444"
    message = '`{pattern}` pools tokens in declared order, and the layout is "ordered"'
    label = "this pattern"
    help = 'use layout="declared"'

    pattern: str


class MissingVectors(Diagnostic):
    code = "E451"
    message = "`{pattern}` selects pairs by queries and keys, which are not given"
    help = "give q and k: [batch, heads, tokens, head dim]"

    pattern: str


class LaidOutRoute(Diagnostic):
    code = "E452"
    message = '`{pattern}` selects pairs by queries and keys in declared order, and the layout is "ordered"'
    label = "this pattern"
    help = 'use layout="declared"'

    pattern: str


class LaidOutProducts(Diagnostic):
    code = "E376"
    message = '`{pattern}` multiplies vectors of tokens in declared order, and the layout is "ordered"'
    label = "this pattern"
    help = 'use layout="declared"'

    pattern: str


class PooledInPart(Diagnostic):
    code = "E380"
    message = "the score of `{pattern}` pools vectors of tokens, and the call has some of the tokens only"
    label = "this pattern"
    help = "give all queries and keys in one call, without `query_start` and `key_lengths`, and not packed"

    pattern: str


class AbsentQueries(Diagnostic):
    code = "E453"
    message = "the route `{route}` of `{pattern}` needs queries that are not in this call"
    label = "this route"
    help = "give all queries of a group that is pooled, or that chooses as one"

    pattern: str
    route: str


class PooledState(Diagnostic):
    code = "E454"
    message = "`{pattern}` pools keys, for which there is no routing state"
    label = "this pattern"
    help = "call the attention without a routing state: it then selects among all cached keys"

    pattern: str


class OtherState(Diagnostic):
    code = "E455"
    message = "the routing state belongs to another attention, of `{other}`"
    label = "this pattern is called"
    help = "make one by `attention.routing_state(batch)`; where lengths follow tensors, by `attention.at(length)`"

    pattern: str
    other: str


class NotANumber(Diagnostic):
    code = "E456"
    message = "the score of `{route}` is NaN in batch entry {batch}, head {head}: query group {query}, key group {key}"
    label = "{count} scores of this route are NaN, and are never selected"
    help = "look for NaN in q, k and the inputs that the score reads; without debug=True this is no error"

    route: str
    batch: int
    head: int
    query: int
    key: int
    count: int


class PartDebugged(Diagnostic):
    code = "E457"
    message = "`debug` checks the scores of calls with all queries only"
    help = "call the attention with all queries and keys to find out which scores are NaN"


class StateBatch(Diagnostic):
    code = "E458"
    message = "the batch has {found} entries, but the routing state was made for {batch}"
    help = "make one by `attention.routing_state({found})`"

    found: int
    batch: int

"""E45x: what can be wrong with a call that selects pairs from queries and keys. Raised by `runtime` and `ir`."""

from maskdsl.base.diagnostics import Diagnostic


class LaidOutPooled(Diagnostic):
    code = "E444"
    message = '`{pattern}` pools keys, which needs them in declared order, and the layout is "ordered"'
    label = "this pattern"

    pattern: str


class MissingVectors(Diagnostic):
    code = "E451"
    message = "`{pattern}` finds pairs in the queries and keys, which are not given"
    help = "give q and k: [batch, heads, tokens, head dim]"

    pattern: str


class LaidOutRoute(Diagnostic):
    code = "E452"
    message = '`{pattern}` finds pairs in queries and keys in declared order, and the layout is "ordered"'
    label = "this pattern"

    pattern: str


class AbsentQueries(Diagnostic):
    code = "E453"
    message = "`{pattern}` finds `{route}` in queries that are not in this call"
    label = "this route"
    help = "all queries of a group that is pooled, or chooses as one, must be in the call"

    pattern: str
    route: str


class PooledState(Diagnostic):
    code = "E454"
    message = "`{pattern}` pools keys, of which no routing state is kept"
    label = "this pattern"
    help = "call the attention without a state: what is selected is found anew in all cached keys"

    pattern: str


class OtherState(Diagnostic):
    code = "E455"
    message = "the routing state is that of another attention, of `{other}`"
    label = "this pattern is called"
    help = "`attention.routing_state(batch)` makes one; where lengths follow tensors, `attention.at(length)` has it"

    pattern: str
    other: str


class NotANumber(Diagnostic):
    code = "E456"
    message = "the score of `{route}` is NaN in batch entry {batch}, head {head}: query group {query}, key group {key}"
    label = "{count} scores of this route are NaN, and are never selected"
    help = "look for NaN in q, k and the inputs that it reads; without debug=True this is no error"

    route: str
    batch: int
    head: int
    query: int
    key: int
    count: int


class PartDebugged(Diagnostic):
    code = "E457"
    message = "`debug` looks at the scores of calls with all queries"
    help = "call the attention with all queries and keys to find out which scores are NaN"


class StateBatch(Diagnostic):
    code = "E458"
    message = "the batch has {found} entries, and the routing state {batch}"

    found: int
    batch: int

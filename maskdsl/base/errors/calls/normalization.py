"""E497 to E499: errors of what calls of a pattern cannot have, by how it normalizes scores."""

from maskdsl.base.diagnostics import Diagnostic


class NoSums(Diagnostic):
    code = "E497"
    message = "`{pattern}` has no log-sum-exp: it has `normalize {normalize}`"
    label = "this pattern"
    help = "call it without `return_lse`: only one softmax for each query has a log-sum-exp"

    pattern: str
    normalize: str


class AllQueriesNeeded(Diagnostic):
    code = "E498"
    message = "`{pattern}` takes one softmax for each key, over all of its queries: this call has only some of them"
    label = "this pattern"
    help = "call it with all queries and keys, without `query_start`, `key_lengths` and pages"

    pattern: str


class WrongDropout(Diagnostic):
    code = "E499"
    message = "`{what}` is {found}, where {expected} is expected"
    help = "pairs are dropped by their positions and a seed: `attention(q, k, v, dropout_p=0.1, seed=step)`"

    what: str
    found: str
    expected: str

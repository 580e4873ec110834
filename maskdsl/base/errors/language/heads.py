"""E34x and E49x: what can be wrong with the heads that a mask is for, and with what several processes share."""

from maskdsl.base.diagnostics import Diagnostic


class WrongHeadNumber(Diagnostic):
    code = "E340"
    message = "`{name}` is {found}"
    help = "a whole number {expected} is possible"

    name: str
    found: str
    expected: str


class IndivisibleKeyHeads(Diagnostic):
    code = "E341"
    message = "{key_heads} key heads do not divide {heads} query heads"
    help = "each key head is shared by the same number of query heads"

    key_heads: int
    heads: int


class NoSuchHeads(Diagnostic):
    code = "E342"
    message = "heads {first} to {last} are not among {heads} heads"
    help = "`heads` counts those of the whole attention; `first_head` and `local_heads` say which of them are here"

    first: int
    last: int
    heads: int


class SplitKeyHeads(Diagnostic):
    code = "E343"
    message = "heads {first} to {last} of {heads} share no whole number of {key_heads} key heads"
    help = "take all {shared} query heads of each key head, or a part of those of one that divides them"

    first: int
    last: int
    heads: int
    key_heads: int
    shared: int


class SplitPool(Diagnostic):
    code = "E344"
    message = "the route `{name}` pools the vectors of heads of which only some are here"
    label = "heads {first} to {last} of {heads}{known}"
    help = "let each process have all heads that are pooled together"

    name: str
    first: int
    last: int
    heads: int
    known: str


class WrongKeyHeads(Diagnostic):
    code = "E490"
    message = "`k` has {found} heads, but `{pattern}` was bound with {expected}{whole}"
    label = "of this pattern"
    help = "bind it with the number of key heads of the whole attention, or without `key_heads`"

    found: int
    pattern: str
    expected: str
    whole: str


class ContextParallel(Diagnostic):
    code = "E491"
    message = "`{pattern}` is called inside of torch's `context_parallel`, where each process has a part of the tokens"
    label = "this pattern takes all tokens that it was bound for"
    help = "call it outside, with all keys on each process and its own queries: attention(q, k, v, query_start=...)"

    pattern: str


class Distributed(Diagnostic):
    code = "E492"
    message = "`{name}` is a DTensor"
    help = (
        "give its local part, `{name}.to_local()`: shards of the batch need nothing else, shards of the heads"
        " bind(heads=..., first_head=..., local_heads=...), and shards of the queries query_start=... and all keys"
    )

    name: str

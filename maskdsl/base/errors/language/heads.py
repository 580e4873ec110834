"""E34x and E49x: errors of the heads that a mask is bound for, and of tensors shared by several processes."""

from maskdsl.base.diagnostics import Diagnostic


class WrongHeadNumber(Diagnostic):
    code = "E340"
    message = "`{name}` is {found}"
    help = "give an integer {expected}"

    name: str
    found: str
    expected: str


class IndivisibleKeyHeads(Diagnostic):
    code = "E341"
    message = "{key_heads} key heads do not divide {heads} query heads"
    help = "choose a number of key heads that divides {heads}: each key head serves equally many query heads"

    key_heads: int
    heads: int


class NoSuchHeads(Diagnostic):
    code = "E342"
    message = "heads {first} to {last} are not among {heads} heads"
    help = (
        "`heads` is the number of heads of the whole attention; `first_head` and `local_heads` say which of them are "
        "here"
    )

    first: int
    last: int
    heads: int


class SplitKeyHeads(Diagnostic):
    code = "E343"
    message = "heads {first} to {last} of {heads} are not all query heads of some of the {key_heads} key heads"
    help = "take all {shared} query heads of each key head, or, of one key head, a number of them that divides {shared}"

    first: int
    last: int
    heads: int
    key_heads: int
    shared: int


class SplitPool(Diagnostic):
    code = "E344"
    message = "the route `{name}` pools vectors of several heads, of which only some are here"
    label = "heads {first} to {last} of {heads}{known}"
    help = "give each process all heads that are pooled together"

    name: str
    first: int
    last: int
    heads: int
    known: str


class WrongKeyHeads(Diagnostic):
    code = "E490"
    message = "`k` has {found} heads, but `{pattern}` was bound for {expected}{whole}"
    label = "of this pattern"
    help = "bind it with the number of key heads of the whole attention: bind(heads=..., key_heads=...)"

    found: int
    pattern: str
    expected: str
    whole: str


class ContextParallel(Diagnostic):
    code = "E491"
    message = "`{pattern}` is called inside torch's `context_parallel`, where each process has some of the tokens"
    label = "this pattern needs all tokens that it was bound for"
    help = "call it outside, with all keys and some of the queries on each process: attention(q, k, v, query_start=...)"

    pattern: str


class Distributed(Diagnostic):
    code = "E492"
    message = "`{name}` is a DTensor"
    help = (
        "give q as a DTensor too; inputs of `prepare` and all of `prepare_decode` are local, `{name}.to_local()`: "
        "shards of the batch need nothing else, for those of heads bind(heads=..., first_head=..., local_heads=...)"
    )

    name: str

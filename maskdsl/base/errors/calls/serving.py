"""E474, E484 to E489: errors of packed queries over pages, `out`, scales, and prepared steps. Raised by `runtime`."""

from maskdsl.base.diagnostics import Diagnostic


class PagesOfSequences(Diagnostic):
    code = "E484"
    message = "`{missing}` is {found} for packed queries whose keys lie in pages"
    help = "give `page_table` [sequences, pages] and `key_lengths` [sequences], and no `cu_seqlens_k`"

    missing: str
    found: str


class FewerKeys(Diagnostic):
    code = "E485"
    message = "sequence {number} has {queries} queries and {keys} keys"
    help = "`key_lengths` counts the keys of the queries too, which are the last tokens; or give `query_start`"

    number: int
    queries: int
    keys: int


class ForwardOnly(Diagnostic):
    code = "E486"
    message = "{what} has no gradients, and `{name}` requires one"
    help = "{hint}"

    what: str
    name: str
    hint: str


class WrongOut(Diagnostic):
    code = "E487"
    message = "the {what} of `out` is {given}, and that of the result is {wanted}"
    help = "give `torch.empty` of the result's shape, of the type and on the device of `q`; any strides will do"

    what: str
    given: str
    wanted: str


class OutOverlaps(Diagnostic):
    code = "E488"
    message = "`out` lies between the first and the last element of `{name}` in memory, or around them"
    help = "give memory of its own, such as `torch.empty`"

    name: str


class OtherStep(Diagnostic):
    code = "E489"
    message = "`q` is {given}, and the step was prepared for {wanted}"
    help = "prepare a step for each shape of queries"

    given: str
    wanted: str


class CacheScale(Diagnostic):
    code = "E474"
    message = "`{name}` is {found}"
    help = "{hint}"

    name: str
    found: str
    hint: str

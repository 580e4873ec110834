"""E484 to E486: errors of packed queries whose keys lie in pages. Raised by `runtime`."""

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

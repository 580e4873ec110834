"""E43x and E48x: what can be wrong with lengths and pages, and with packed sequences. Raised by `runtime`."""

from maskdsl.base.diagnostics import Diagnostic


class NotOneAxis(Diagnostic):
    code = "E310"
    message = "`{name}` has the shape {found}"
    help = "give a list of integers, or a tensor of one axis"

    name: str
    found: tuple[int, ...]


class NotIntegers(Diagnostic):
    code = "E431"
    message = "`{name}` is {found}, and says where tokens are"
    help = "give integers"

    name: str
    found: str


class NotOneAnEntry(Diagnostic):
    code = "E432"
    message = "`{name}` has the shape {found}, for {batch} batch entries"
    help = "`query_start` is a number or [batch], `key_lengths` is [batch], `page_table` [batch, pages]"

    name: str
    found: tuple[int, ...]
    batch: int


class PagesWithoutTable(Diagnostic):
    code = "E433"
    message = "there is a `page_size`, but no `page_table`"


class PageSize(Diagnostic):
    code = "E434"
    message = "`page_size` is {given}, but pages of `k` hold {found} keys"
    help = "k and v are [pages, heads, page size, head dim]"

    given: int
    found: int


class TooManyQueries(Diagnostic):
    code = "E435"
    message = "`q` has {found} queries, and `{pattern}` was bound with {length}"
    label = "of this pattern"

    found: int
    length: int
    pattern: str


class QueryStart(Diagnostic):
    code = "E436"
    message = "{count} queries from {start} on are not all among the {length} of the pattern"
    label = "of this pattern"

    start: int
    count: int
    length: int


class TooManyKeys(Diagnostic):
    code = "E437"
    message = "`k` has {found} keys, and `{pattern}` was bound with {length}"
    label = "of this pattern"
    help = "bind it for the longest sequence that there may be"

    found: int
    length: int
    pattern: str


class ChunkLayout(Diagnostic):
    code = "E438"
    message = "queries from `query_start` on are in declared order, and the layout is `{layout}`"

    layout: str


class WrongEnds(Diagnostic):
    code = "E439"
    message = "`{name}` has the shape {found}"
    help = "give [sequences + 1] integers, equally many for queries and keys: where each begins, and the last ends"

    name: str
    found: tuple[int, ...]


class EndsOutOfOrder(Diagnostic):
    code = "E440"
    message = "`{name}` does not rise from 0 to {total} at most, which is how many tokens there are"

    name: str
    total: int


class LongSequence(Diagnostic):
    code = "E441"
    message = "by `{name}` a sequence has {found} tokens, more than the {length} of the pattern"
    help = "bind the pattern for the longest sequence that there may be"

    name: str
    found: int
    length: int


class NotThreeAxes(Diagnostic):
    code = "E442"
    message = "`{name}` has the shape {shape}"
    help = "packed sequences are [all tokens, heads, head dim]"

    name: str
    shape: tuple[int, ...]


class PackedPooled(Diagnostic):
    code = "E443"
    message = "`{pattern}` pools keys, which packed sequences cannot"
    label = "this pattern"
    help = "call the attention with a batch of sequences, and `key_lengths` for those that are shorter"

    pattern: str


class KeyLength(Diagnostic):
    code = "E480"
    message = "`{name}` holds {found}, and there is room for 0 to {room} keys"
    help = "{hint}"

    name: str
    found: int
    room: int
    hint: str


class PageNumber(Diagnostic):
    code = "E481"
    message = (
        "`page_table` sends batch entry {entry} to page {found} for its keys from {first} on, and there are {pages}"
    )
    help = "pages are numbered from 0, as k and v hold them; a negative number is a page that is not there"

    entry: int
    found: int
    first: int
    pages: int


class EmptyPages(Diagnostic):
    code = "E482"
    message = "`k` has pages of 0 keys"
    help = "k and v are [pages, heads, page size, head dim]"

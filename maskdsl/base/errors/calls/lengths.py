"""E43x and E48x: errors of lengths, pages and packed sequences. Raised by `runtime`."""

from maskdsl.base.diagnostics import Diagnostic


class NotOneAxis(Diagnostic):
    code = "E310"
    message = "`{name}` has the shape {found}"
    help = "give a list of integers, or a tensor with one axis"

    name: str
    found: tuple[int, ...]


class NotIntegers(Diagnostic):
    code = "E431"
    message = "`{name}` is {found}, and holds positions or lengths of tokens"
    help = "give integers"

    name: str
    found: str


class NotOneAnEntry(Diagnostic):
    code = "E432"
    message = "`{name}` has the shape {found}, for {batch} batch entries"
    help = "`query_start` and `key_lengths` are a number or [batch], `page_table` is [batch, pages]"

    name: str
    found: tuple[int, ...]
    batch: int


class PagesWithoutTable(Diagnostic):
    code = "E433"
    message = "`page_size` is given without `page_table`"
    help = "give both, or leave `page_size` out"


class PageSize(Diagnostic):
    code = "E434"
    message = "`page_size` is {given}, but the pages of `k` hold {found} keys"
    help = "k and v are [pages, heads, page size, head dim]"

    given: int
    found: int


class TooManyQueries(Diagnostic):
    code = "E435"
    message = "`q` has {found} queries, but `{pattern}` was bound for {length}"
    label = "of this pattern"
    help = "bind it for the longest sequence that you will call it with"

    found: int
    length: int
    pattern: str


class QueryStart(Diagnostic):
    code = "E436"
    message = "{count} queries from position {start} on do not fit into the {length} queries of the pattern"
    label = "of this pattern"
    help = "`query_start` is the position of the first query of the call"

    start: int
    count: int
    length: int


class TooManyKeys(Diagnostic):
    code = "E437"
    message = "`k` has {found} keys, but `{pattern}` was bound for {length}"
    label = "of this pattern"
    help = "bind it for the longest sequence that you will call it with"

    found: int
    length: int
    pattern: str


class ChunkLayout(Diagnostic):
    code = "E438"
    message = '`query_start` counts queries in declared order, and the layout is "{layout}"'
    help = 'use layout="declared"'

    layout: str


class WrongEnds(Diagnostic):
    code = "E439"
    message = "`{name}` has the shape {found}"
    help = (
        "give one integer more than there are sequences, for queries and for keys: where each sequence begins, and "
        "where the last one ends"
    )

    name: str
    found: tuple[int, ...]


class EndsOutOfOrder(Diagnostic):
    code = "E440"
    message = "`{name}` must begin with 0, never decrease, and end at {total} at most, which is the number of tokens"
    help = "give the cumulative lengths of the sequences"

    name: str
    total: int


class LongSequence(Diagnostic):
    code = "E441"
    message = "`{name}` has a sequence of {found} tokens, and the pattern was bound for {length}"
    help = "bind it for the longest sequence that you will call it with"

    name: str
    found: int
    length: int


class NotThreeAxes(Diagnostic):
    code = "E442"
    message = "`{name}` has the shape {shape}"
    help = "give packed sequences as [all tokens, heads, head dim]"

    name: str
    shape: tuple[int, ...]


class PackedPooled(Diagnostic):
    code = "E443"
    message = "`{pattern}` pools keys, which does not work for packed sequences"
    label = "this pattern"
    help = "give a batch of sequences, and `key_lengths` for the shorter ones"

    pattern: str


class KeyLength(Diagnostic):
    code = "E480"
    message = "`{name}` holds {found}, and must be 0 to {room} keys"
    help = "{hint}"

    name: str
    found: int
    room: int
    hint: str


class PageNumber(Diagnostic):
    code = "E481"
    message = (
        "`page_table` maps the keys of batch entry {entry} from {first} on to page {found}, but there are {pages} pages"
    )
    help = "pages are numbered from 0, as k and v hold them; a negative number stands for no page"

    entry: int
    found: int
    first: int
    pages: int


class EmptyPages(Diagnostic):
    code = "E482"
    message = "`k` has pages of 0 keys"
    help = "k and v are [pages, heads, page size, head dim]"

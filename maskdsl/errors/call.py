"""What can be wrong with a call of a compiled attention: tensors, inputs, backends. Raised by `runtime`."""

from maskdsl.diagnostics import Diagnostic


class NotFourAxes(Diagnostic):
    code = "E401"
    message = "`{name}` has the shape {shape}"
    help = "q, k and v are [batch, heads, tokens, head dim]"

    name: str
    shape: tuple[int, ...]


class NotFloating(Diagnostic):
    code = "E402"
    message = "`{name}` is {dtype}, and attention needs a floating type"
    help = "float64, float32, bfloat16 and float16 are computed"

    name: str
    dtype: str


class MixedTypes(Diagnostic):
    code = "E403"
    message = "`q` is {query}, but `{name}` is {other}"
    help = "q, k and v have one type"

    name: str
    query: str
    other: str


class MixedDevices(Diagnostic):
    code = "E404"
    message = "`q` is on {query}, but `{name}` is on {other}"
    help = "everything of one call lives on one device"

    name: str
    query: str
    other: str


class WrongHeads(Diagnostic):
    code = "E405"
    message = "`q` has {found} heads, but `{pattern}` was bound with {expected}"
    label = "of this pattern"
    help = "bind it with heads={found}; if these are some of more heads, with first_head=... and local_heads={found}"

    pattern: str
    found: int
    expected: int


class IndivisibleHeads(Diagnostic):
    code = "E406"
    message = "`{name}` has {found} heads, which do not divide the {heads} heads of `q`"

    name: str
    found: int
    heads: int


class WrongLength(Diagnostic):
    code = "E407"
    message = "`{name}` has {found} tokens, but `{pattern}` has {expected} {kind}"
    label = "of this pattern"

    name: str
    found: int
    expected: int
    pattern: str
    kind: str


class Disagreeing(Diagnostic):
    code = "E408"
    message = "`{first}` and `{second}` differ in {axis}: {one} and {two}"

    first: str
    second: str
    axis: str
    one: int
    two: int


class MissingInput(Diagnostic):
    code = "E410"
    message = "the input `{name}` is missing"
    label = "declared here"
    help = "call attention(q, k, v, {name}=...)"

    name: str


class UnknownInput(Diagnostic):
    code = "E411"
    message = "`{pattern}` has no input `{name}`"
    label = "in this pattern"

    name: str
    pattern: str


class InputShape(Diagnostic):
    code = "E412"
    message = "the input `{name}` has the shape {found}, and {expected} is declared"
    label = "declared here"

    name: str
    found: tuple[int, ...]
    expected: str


class InputType(Diagnostic):
    code = "E413"
    message = "the input `{name}` is {found}, and `{expected}` is declared"
    label = "declared here"

    name: str
    found: str
    expected: str


class InputRange(Diagnostic):
    code = "E414"
    message = "the input `{name}` holds {value}, which is outside the 32-bit integers"
    label = "declared here"

    name: str
    value: int


class NotATensor(Diagnostic):
    code = "E415"
    message = "`{name}` is no tensor but {found}"

    name: str
    found: str


class UnknownBackend(Diagnostic):
    code = "E420"
    message = "there is no backend `{name}`"
    help = "the backends are {backends}"

    name: str
    backends: str


class UnknownLayout(Diagnostic):
    code = "E422"
    message = "there is no layout `{name}`"
    help = '"declared" and "ordered" are the layouts'

    name: str


class NeedsDevice(Diagnostic):
    code = "E424"
    message = "the backend `triton` computes on GPUs, and `q` is on {device}"
    help = 'use backend="tiled", or set TRITON_INTERPRET=1 before the program begins to run kernels in the interpreter'

    device: str


class LargeHeadDim(Diagnostic):
    code = "E425"
    message = "`{name}` has a head dim of {found}, and the backend `triton` computes up to {limit}"
    help = 'use backend="tiled"'

    name: str
    found: int
    limit: int


class TritonVersion(Diagnostic):
    code = "E426"
    message = "{what} needs Triton {needed}, and there is {found}"
    help = 'install it, or use backend="tiled"'

    what: str
    needed: str
    found: str


class UnknownHandle(Diagnostic):
    code = "E427"
    message = "this process has not compiled the pattern of this operator, `{handle}`"
    help = "compile the same pattern for the same backend before the graph runs that was made with it"

    handle: str


class NoSecondDerivative(Diagnostic):
    code = "E428"
    message = "attention has no second derivatives"
    help = "differentiate once, or detach the gradient"


class NoForwardMode(Diagnostic):
    code = "E421"
    message = "attention has no derivatives in forward mode"
    help = "use reverse mode: torch.func.grad, vjp, jacrev, or backward()"


class WrongFollow(Diagnostic):
    code = "E429"
    message = "{found} cannot be followed"
    help = "follow one parameter, the number of tokens, or two: the numbers of queries and of keys"

    found: str


class FollowedGiven(Diagnostic):
    code = "E430"
    message = "`{name}` follows the lengths of tensors, and a value is given too"
    label = "this parameter"

    name: str


class TableRead(Diagnostic):
    code = "E423"
    message = "`{name}` is read outside its bounds: index {index} of a dimension of {length}"
    label = "by query {query} and key {key}, which attend"

    name: str
    index: int
    length: int
    query: int
    key: int


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


class GroupRange(Diagnostic):
    code = "E450"
    message = "the group `{name}` of a token is {value}"
    help = "groups are numbered from 0, and there are at most {count}"

    name: str
    value: int
    count: int


class MissingVectors(Diagnostic):
    code = "E451"
    message = "`{pattern}` finds pairs in the queries and keys, which are not given"
    help = "give q and k: [batch, heads, tokens, head dim]"

    pattern: str


class LaidOutPooled(Diagnostic):
    code = "E444"
    message = '`{pattern}` pools keys, which needs them in declared order, and the layout is "ordered"'
    label = "this pattern"

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


class KeyLength(Diagnostic):
    code = "E480"
    message = "`key_lengths` holds {found}, and there is room for 0 to {room} keys"
    help = "{hint}"

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


class InputReadOutside(Diagnostic):
    code = "E483"
    message = "by its inputs, `{name}` is read outside its bounds: index {value}, and there are entries 0 to {last}"
    label = "{value} {where}"
    help = "keep it inside with `clamp(..., 0, {last})`, or let nobody attend there: what does not attend is not read"

    name: str
    value: int
    last: int
    where: str


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


class StateBatch(Diagnostic):
    code = "E458"
    message = "the batch has {found} entries, and the routing state {batch}"

    found: int
    batch: int


class NoConfiguration(Diagnostic):
    code = "E470"
    message = "no configuration of `{kernel}` of `{pattern}` can be compiled and started on {device}: {failure}"
    help = 'this is the failure of the last and smallest one; `backend="tiled"` needs no kernels'

    kernel: str
    pattern: str
    device: str
    failure: str


class WrongArgument(Diagnostic):
    code = "E460"
    message = "the argument `{name}` is {found}"
    help = "{expected} is expected"

    name: str
    found: str
    expected: str


class WrongCall(Diagnostic):
    code = "E461"
    message = "`{name}` is called with other arguments than it has: {reason}"
    help = "call it as `{called}`; parameters of patterns and inputs are given by name, such as n=64"

    name: str
    reason: str
    called: str


class OutsideMap(Diagnostic):
    code = "E462"
    message = "there is no {what} {number}"
    help = "they are 0 to {last}"

    what: str
    number: int
    last: int


class NotCompiled(Diagnostic):
    code = "E463"
    message = "a {kind} is not called, but what it is compiled to"
    help = "attention = {compiled}; out = attention(q, k, v)"

    kind: str
    compiled: str


class PatternAsAttribute(Diagnostic):
    code = "E464"
    message = "a module has no attribute `{name}`"
    help = 'patterns and stacks are found by name, such as module["{known}"]; here are {names}'

    name: str
    known: str
    names: str


class NotStrided(Diagnostic):
    code = "E308"
    message = "`{name}` is a {kind} tensor, and a dense one is expected"
    help = "sequences of different lengths go to `varlen`, one behind the other; x.to_dense() makes a sparse one dense"

    name: str
    kind: str


class NoDimension(Diagnostic):
    code = "E309"
    message = "`{name}` has vectors of no numbers: its shape is {shape}"
    help = "the last axis is the head dimension, 1 at least"

    name: str
    shape: tuple[int, ...]


class NotOneAxis(Diagnostic):
    code = "E310"
    message = "`{name}` has the shape {found}"
    help = "give a list of integers, or a tensor of one axis"

    name: str
    found: tuple[int, ...]

"""E40x: errors of `q`, `k` and `v` in a call, and of tensors in general. Raised by `runtime` and `ir`."""

from maskdsl.base.diagnostics import Diagnostic


class NotStrided(Diagnostic):
    code = "E308"
    message = "`{name}` is a {kind} tensor, and a dense one is expected"
    help = (
        "pack sequences of different lengths one after the other for `varlen`; make a sparse tensor dense by "
        "x.to_dense()"
    )

    name: str
    kind: str


class NoDimension(Diagnostic):
    code = "E309"
    message = "the vectors of `{name}` have no elements: its shape is {shape}"
    help = "the last axis is the head dimension, which is at least 1"

    name: str
    shape: tuple[int, ...]


class NotFourAxes(Diagnostic):
    code = "E401"
    message = "`{name}` has the shape {shape}"
    help = "give q, k and v as [batch, heads, tokens, head dim]"

    name: str
    shape: tuple[int, ...]


class NotFloating(Diagnostic):
    code = "E402"
    message = "`{name}` is {dtype}, and attention needs a floating type"
    help = (
        "use float64, float32, bfloat16 or float16; calls with a cache, which have a `query_start` or pages, also read "
        "keys and values of float8_e4m3fn or float8_e5m2"
    )

    name: str
    dtype: str


class MixedTypes(Diagnostic):
    code = "E403"
    message = "`q` is {query}, but `{name}` is {other}"
    help = "give q, k and v the same type"

    name: str
    query: str
    other: str


class MixedDevices(Diagnostic):
    code = "E404"
    message = "`q` is on {query}, but `{name}` is on {other}"
    help = "move all tensors of a call to one device"

    name: str
    query: str
    other: str


class WrongHeads(Diagnostic):
    code = "E405"
    message = "`q` has {found} heads, but `{pattern}` was bound for {expected}"
    label = "of this pattern"
    help = "bind it with heads={found}; if these are some of more heads, with first_head=... and local_heads={found}"

    pattern: str
    found: int
    expected: int


class IndivisibleHeads(Diagnostic):
    code = "E406"
    message = "`{name}` has {found} heads, a number that does not divide the {heads} heads of `q`"

    name: str
    found: int
    heads: int


class WrongLength(Diagnostic):
    code = "E407"
    message = "{names} {found} tokens, but `{pattern}` has {expected} {kind}"
    label = "of this pattern"
    help = "{hint}"

    names: str
    found: int
    expected: int
    pattern: str
    kind: str
    hint: str


class Transposed(Diagnostic):
    code = "E471"
    message = "`q` has {found} heads and {tokens} tokens, but `{pattern}` was bound for {heads} and {length}"
    label = "of this pattern"
    help = (
        "these look transposed: give q, k and v as [batch, heads, tokens, head dim], q.transpose(1, 2), or as [batch, "
        'tokens, heads, head dim] to an attention that was compiled with layout="bnhd"'
    )

    pattern: str
    found: int
    tokens: int
    heads: int
    length: int


class OutOfLayout(Diagnostic):
    code = "E493"
    message = "`{name}` has the shape {shape}"
    help = 'with layout="bnhd" give q, k and v as [batch, tokens, heads, head dim]{grid}'

    name: str
    shape: tuple[int, ...]
    grid: str


class OtherGrid(Diagnostic):
    code = "E494"
    message = "the tokens of `{name}` have the axes {found}, but those of `{pattern}` have {expected}"
    label = "of this pattern"
    help = "bind the pattern for this grid, or give the tokens one axis: [batch, tokens, heads, head dim]"

    name: str
    found: tuple[int, ...]
    pattern: str
    expected: tuple[int, ...]


class Disagreeing(Diagnostic):
    code = "E408"
    message = "`{first}` and `{second}` have different {axis}: {one} and {two}"

    first: str
    second: str
    axis: str
    one: int
    two: int


class NotATensor(Diagnostic):
    code = "E415"
    message = "`{name}` is not a tensor but {found}"

    name: str
    found: str


class VectorLength(Diagnostic):
    code = "E379"
    message = "`{name}` has vectors of {found} numbers, and {whose} of {dim}"
    label = "this input"
    help = "declare its last dimension as {whose} in this call have it: an integer, or `dim` for that of q and k"

    name: str
    found: int
    whose: str
    dim: int

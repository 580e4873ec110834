"""E40x: what can be wrong with `q`, `k` and `v` of a call, and with any other tensor. Raised by `runtime` and `ir`."""

from maskdsl.base.diagnostics import Diagnostic


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


class NotATensor(Diagnostic):
    code = "E415"
    message = "`{name}` is no tensor but {found}"

    name: str
    found: str

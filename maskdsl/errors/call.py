"""What can be wrong with a call of a compiled attention: tensors, inputs, backends. Raised by `runtime`."""

from dataclasses import dataclass

from maskdsl.diagnostics import Diagnostic


@dataclass(frozen=True, kw_only=True)
class NotFourAxes(Diagnostic):
    code = "E401"
    message = "`{name}` has the shape {shape}"
    help = "q, k and v are [batch, heads, tokens, head dim]"

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class NotFloating(Diagnostic):
    code = "E402"
    message = "`{name}` is {dtype}, and attention needs a floating type"
    help = "float64, float32, bfloat16 and float16 are computed"

    name: str
    dtype: str


@dataclass(frozen=True, kw_only=True)
class MixedTypes(Diagnostic):
    code = "E403"
    message = "`q` is {query}, but `{name}` is {other}"
    help = "q, k and v have one type"

    name: str
    query: str
    other: str


@dataclass(frozen=True, kw_only=True)
class MixedDevices(Diagnostic):
    code = "E404"
    message = "`q` is on {query}, but `{name}` is on {other}"
    help = "everything of one call lives on one device"

    name: str
    query: str
    other: str


@dataclass(frozen=True, kw_only=True)
class WrongHeads(Diagnostic):
    code = "E405"
    message = "`q` has {found} heads, but `{pattern}` was bound with {expected}"
    label = "of this pattern"
    help = "bind it with heads={found}"

    pattern: str
    found: int
    expected: int


@dataclass(frozen=True, kw_only=True)
class IndivisibleHeads(Diagnostic):
    code = "E406"
    message = "`{name}` has {found} heads, which do not divide the {heads} heads of `q`"

    name: str
    found: int
    heads: int


@dataclass(frozen=True, kw_only=True)
class WrongLength(Diagnostic):
    code = "E407"
    message = "`{name}` has {found} tokens, but `{pattern}` has {expected} {kind}"
    label = "of this pattern"

    name: str
    found: int
    expected: int
    pattern: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Disagreeing(Diagnostic):
    code = "E408"
    message = "`{first}` and `{second}` differ in {axis}: {one} and {two}"

    first: str
    second: str
    axis: str
    one: int
    two: int


@dataclass(frozen=True, kw_only=True)
class MissingInput(Diagnostic):
    code = "E410"
    message = "the input `{name}` is missing"
    label = "declared here"
    help = "call attention(q, k, v, {name}=...)"

    name: str


@dataclass(frozen=True, kw_only=True)
class UnknownInput(Diagnostic):
    code = "E411"
    message = "`{pattern}` has no input `{name}`"
    label = "in this pattern"

    name: str
    pattern: str


@dataclass(frozen=True, kw_only=True)
class InputShape(Diagnostic):
    code = "E412"
    message = "the input `{name}` has the shape {found}, and {expected} is declared"
    label = "declared here"

    name: str
    found: tuple[int, ...]
    expected: str


@dataclass(frozen=True, kw_only=True)
class InputType(Diagnostic):
    code = "E413"
    message = "the input `{name}` is {found}, and `{expected}` is declared"
    label = "declared here"

    name: str
    found: str
    expected: str


@dataclass(frozen=True, kw_only=True)
class InputRange(Diagnostic):
    code = "E414"
    message = "the input `{name}` holds {value}, which is outside the 32-bit integers"
    label = "declared here"

    name: str
    value: int


@dataclass(frozen=True, kw_only=True)
class NotATensor(Diagnostic):
    code = "E415"
    message = "`{name}` is no tensor but {found}"

    name: str
    found: str


@dataclass(frozen=True, kw_only=True)
class UnknownBackend(Diagnostic):
    code = "E420"
    message = "there is no backend `{name}`"
    help = "the backends are {backends}"

    name: str
    backends: str


@dataclass(frozen=True, kw_only=True)
class NoBackward(Diagnostic):
    code = "E421"
    message = "the backend `{backend}` has no backward pass, and `{name}` requires a gradient"
    help = 'use backend="tiled", or call it under torch.no_grad()'

    backend: str
    name: str


@dataclass(frozen=True, kw_only=True)
class UnknownLayout(Diagnostic):
    code = "E422"
    message = "there is no layout `{name}`"
    help = '"declared" and "ordered" are the layouts'

    name: str


@dataclass(frozen=True, kw_only=True)
class NeedsDevice(Diagnostic):
    code = "E424"
    message = "the backend `triton` computes on GPUs, and `q` is on {device}"
    help = 'use backend="tiled", or set TRITON_INTERPRET=1 before the program begins to run kernels in the interpreter'

    device: str


@dataclass(frozen=True, kw_only=True)
class KernelType(Diagnostic):
    code = "E425"
    message = "the backend `triton` does not compute {dtype}"
    help = 'float32, bfloat16 and float16 are computed; backend="tiled" computes float64 as well'

    dtype: str


@dataclass(frozen=True, kw_only=True)
class TableRead(Diagnostic):
    code = "E423"
    message = "`{name}` is read outside its bounds: index {index} of a dimension of {length}"
    label = "by a query and a key that attend"

    name: str
    index: int
    length: int

"""E55x: errors of tensors that a command line names. Raised by `cli`."""

from maskdsl.base.diagnostics import Diagnostic


class UnreadableTensors(Diagnostic):
    code = "E550"
    message = "`{file}` cannot be read as a safetensors file: {reason}"
    help = "save them by safetensors.torch.save_file or safetensors.numpy.save_file"

    file: str
    reason: str


class MissingTensor(Diagnostic):
    code = "E551"
    message = "`{file}` has no tensor `{name}`"
    help = "it has {known}; save tensors as `q`, `k` and the names of inputs"

    file: str
    name: str
    known: str


class TensorType(Diagnostic):
    code = "E552"
    message = "`{name}` in `{file}` has the type {found}, which cannot be read"
    help = "use floats of 16, 32 or 64 bits, bfloat16, integers or booleans"

    file: str
    name: str
    found: str


class TensorsTooLarge(Diagnostic):
    code = "E553"
    message = "the tensors to be read from `{file}` take {size} bytes, and at most {limit} are allowed"
    help = "save fewer batch entries or heads, or a shorter sequence"

    file: str
    size: int
    limit: int


class OtherHeads(Diagnostic):
    code = "E554"
    message = "`{name}` has {found} heads, and {expected} are expected"
    help = "add --heads {found}"

    name: str
    found: int
    expected: int


class TooManyScores(Diagnostic):
    code = "E555"
    message = "`{route}` scores {queries} query groups for {keys} key groups in every head"
    label = "at most {limit} pairs of groups can be scored here"
    help = "give smaller parameters; or leave the tensors out to see the candidates and bounds of the density"

    route: str
    queries: int
    keys: int
    limit: int

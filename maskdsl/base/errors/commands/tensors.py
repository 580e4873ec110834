"""E55x: what can be wrong with tensors that a command line names. Raised by `cli`."""

from maskdsl.base.diagnostics import Diagnostic


class UnreadableTensors(Diagnostic):
    code = "E550"
    message = "`{file}` cannot be read as a safetensors file: {reason}"
    help = "safetensors.torch.save_file and safetensors.numpy.save_file write such files"

    file: str
    reason: str


class MissingTensor(Diagnostic):
    code = "E551"
    message = "`{file}` has no tensor `{name}`"
    help = "there are {known}; save them as `q`, `k` and the names of inputs"

    file: str
    name: str
    known: str


class TensorType(Diagnostic):
    code = "E552"
    message = "`{name}` in `{file}` is {found}, which is not read"
    help = "floats of 16, 32 and 64 bits, bfloat16, integers and booleans are"

    file: str
    name: str
    found: str


class TensorsTooLarge(Diagnostic):
    code = "E553"
    message = "the tensors of `{file}` that are needed take {size} bytes, and {limit} are read at most"
    help = "save fewer batch entries or heads, or a shorter sequence"

    file: str
    size: int
    limit: int


class OtherHeads(Diagnostic):
    code = "E554"
    message = "`{name}` has {found} heads, and {expected} are looked at"
    help = "add --heads {found}"

    name: str
    found: int
    expected: int


class TooManyScores(Diagnostic):
    code = "E555"
    message = "`{route}` scores {queries} query groups for {keys} key groups in every head"
    label = "at most {limit} pairs of groups are looked at here"
    help = "give smaller parameters; without tensors the candidates and bounds of the density are shown"

    route: str
    queries: int
    keys: int
    limit: int

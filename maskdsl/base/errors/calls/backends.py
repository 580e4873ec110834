"""E42x and E470: what can be wrong with backends, and what they cannot do. Raised by `runtime`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownBackend(Diagnostic):
    code = "E420"
    message = "there is no backend `{name}`"
    help = "the backends are {backends}"

    name: str
    backends: str


class NoForwardMode(Diagnostic):
    code = "E421"
    message = "attention has no derivatives in forward mode"
    help = "use reverse mode: torch.func.grad, vjp, jacrev, or backward()"


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


class NoConfiguration(Diagnostic):
    code = "E470"
    message = "no configuration of `{kernel}` of `{pattern}` can be compiled and started on {device}: {failure}"
    help = 'this is the failure of the last and smallest one; `backend="tiled"` needs no kernels'

    kernel: str
    pattern: str
    device: str
    failure: str

"""E42x, E470, E472 and E473: errors of backends: unknown ones, and what they do not support. Raised by `runtime`."""

from maskdsl.base.diagnostics import Caution, Diagnostic


class UnknownBackend(Diagnostic):
    code = "E420"
    message = "there is no backend `{name}`"
    help = "choose one of {backends}"

    name: str
    backends: str


class NoForwardMode(Diagnostic):
    code = "E421"
    message = "attention has no forward-mode derivatives"
    help = "use reverse mode: torch.func.grad, vjp, jacrev, or backward()"


class UnknownLayout(Diagnostic):
    code = "E422"
    message = "there is no layout `{name}`"
    help = 'choose "declared" or "ordered"'

    name: str


class NeedsDevice(Diagnostic):
    code = "E424"
    message = "the backend `triton` needs a GPU, and `q` is on {device}"
    help = (
        'use backend="tiled", or set TRITON_INTERPRET=1 before Python starts to run kernels in the interpreter of '
        "Triton"
    )

    device: str


class LargeHeadDim(Diagnostic):
    code = "E425"
    message = "`{name}` has a head dimension of {found}, and the backend `triton` supports at most {limit}"
    help = 'use backend="tiled"'

    name: str
    found: int
    limit: int


class TritonVersion(Diagnostic):
    code = "E426"
    message = "{what} needs Triton {needed}, and {found} is installed"
    help = 'install that version, or use backend="tiled"'

    what: str
    needed: str
    found: str


class UnknownHandle(Diagnostic):
    code = "E427"
    message = "this process has not compiled the pattern of the operator `{handle}`"
    help = "compile the same pattern for the same backend before you run a graph that uses it"

    handle: str


class OtherPattern(Diagnostic):
    code = "E478"
    message = "the exported program carries a pattern that this version of maskdsl reads in another way"
    help = "export it anew with this version, or run it with the version that exported it"


class NoSecondDerivative(Diagnostic):
    code = "E428"
    message = "attention has no second derivatives"
    help = "differentiate once, or detach the gradient"


class NoNativeLibrary(Diagnostic):
    code = "E473"
    message = "the backend `native` has no kernel here: {why}"
    help = '{advice}, or use backend="tiled"'

    why: str
    advice: str


class FilledTextRefused(Caution):
    code = "W041"
    message = "the C text of these scores was not compiled, so the slower backend `tiled` computes them: {why}"
    help = "CC may name another compiler; please report this one: `maskdsl emit --stage native` prints the text"

    why: str


class BranchedFlex(Diagnostic):
    code = "E472"
    message = "`{pattern}` has branches, and FlexAttention computes one softmax"
    label = "this pattern"
    help = (
        "add up its branches, which are masks of their own: sum(flex_attention(q, k, v, "
        "**branch.compile().to_flex().arguments) for branch in mask.branches)"
    )

    pattern: str


class NoHeadDim(Diagnostic):
    code = "E312"
    message = "`{pattern}` reads `dim`, and the head dimension is not given"
    label = "this pattern"
    help = "give it: attention.to_flex(head_dim=64, ...)"

    pattern: str


class NoConfiguration(Diagnostic):
    code = "E470"
    message = "no configuration of `{kernel}` of `{pattern}` can be compiled and launched on {device}: {failure}"
    help = 'this is the failure of the last and smallest configuration; backend="tiled" needs no kernels'

    kernel: str
    pattern: str
    device: str
    failure: str

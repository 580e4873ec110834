"""E26x: errors of stacks and their layers. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class NotALayer(Diagnostic):
    code = "E260"
    message = "{found} is not a layer"
    label = "a layer is expected"
    help = "layers are calls of patterns, joined by `+` and repeated by `integer *`: `5 * local(n) + dense(n)`"

    found: str


class UnknownLayer(Diagnostic):
    code = "E261"
    message = "there is no pattern or stack `{name}`"
    label = "{known}"

    name: str
    known: str


class LayersAsNumber(Diagnostic):
    code = "E262"
    message = "layers cannot be used as a number"
    label = "a number is expected"
    help = "write the number first: `5 * local(n)`"


class NegativeLayers(Diagnostic):
    code = "E263"
    message = "layers are repeated {count} times"
    label = "0 or more is expected"

    count: int


class NoLayers(Diagnostic):
    code = "E264"
    message = "the stack `{name}` has no layers"
    label = "this stands for no layers"

    name: str


class TooManyLayers(Diagnostic):
    code = "E265"
    message = "the stack has {count} layers"
    label = "at most {limit} are allowed"

    count: int
    limit: int


class DifferentLengths(Diagnostic):
    code = "E266"
    message = "layers of one stack have different lengths"
    label = "{found} tokens, where the first layer has {expected}"

    found: int
    expected: int


class CrossAttentionLayer(Diagnostic):
    code = "E267"
    message = "`{pattern}` is {kind}, which cannot be a layer of a stack"
    label = "{reason}"

    pattern: str
    kind: str
    reason: str


class DifferentInputs(Diagnostic):
    code = "E268"
    message = "two layers of the stack have an input `{name}` of different types or sizes"
    label = "declared here"
    help = "give one of them another name"

    name: str


class StackRecursion(Diagnostic):
    code = "E269"
    message = "the stack `{name}` contains itself"
    label = "stacks cannot be recursive"

    name: str


class UnknownStack(Diagnostic):
    code = "E272"
    message = "there is no stack `{name}`"
    help = "{known}"

    name: str
    known: str


class StackAsPattern(Diagnostic):
    code = "E270"
    message = "`{name}` is a stack of layers, where one pattern is expected"
    label = "declared here"
    help = 'in Python write `module.stack("{name}")`'

    name: str

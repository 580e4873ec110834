"""What can be wrong when tiles or numbers of a mask are asked for. Raised by `analysis`."""

from maskdsl.base.diagnostics import Diagnostic


class TooManyTokens(Diagnostic):
    code = "E350"
    message = "`{pattern}` has {count} tokens, and tiles are found for at most {limit}"
    label = "of this pattern"

    pattern: str
    count: int
    limit: int


class EmptyBlock(Diagnostic):
    code = "E351"
    message = "blocks of {query} queries and {key} keys"
    help = "a block has at least one of each"

    query: int
    key: int


class UnknownGpu(Diagnostic):
    code = "E352"
    message = "there is no GPU `{name}` to predict for"
    help = "there are {known}"

    name: str
    known: str


class FieldOfCrossAttention(Diagnostic):
    code = "E360"
    message = "`{pattern}` is cross-attention, through which nothing travels from layer to layer"
    label = "its keys are other tokens than its queries"

    pattern: str


class UnknownToken(Diagnostic):
    code = "E361"
    message = "there is no token {token}"
    help = "tokens are 0 to {last}"

    token: int
    last: int


class FieldLayers(Diagnostic):
    code = "E362"
    message = "{layers} layers cannot be followed"
    help = "0 to {limit} can"

    layers: int
    limit: int

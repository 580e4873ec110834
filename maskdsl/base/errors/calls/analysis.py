"""Errors of calls that ask for tiles or figures of a mask. Raised by `analysis`."""

from maskdsl.base.diagnostics import Diagnostic


class TooManyTokens(Diagnostic):
    code = "E350"
    message = "`{pattern}` has {count:,} tokens, and tiles can be found for at most {limit:,}"
    label = "of this pattern"
    help = "bind it for fewer tokens"

    pattern: str
    count: int
    limit: int


class EmptyBlock(Diagnostic):
    code = "E351"
    message = "a tile of {query} queries and {key} keys is empty"
    help = "give at least one query and one key"

    query: int
    key: int


class UnknownGpu(Diagnostic):
    code = "E352"
    message = "no GPU named `{name}` is known"
    help = "choose one of {known}"

    name: str
    known: str


class FieldOfCrossAttention(Diagnostic):
    code = "E360"
    message = "`{pattern}` is cross-attention, which has no receptive field over several layers"
    label = "its queries and keys are different tokens"

    pattern: str


class FieldOfNothing(Diagnostic):
    code = "E363"
    message = "`{pattern}` has no tokens, and so no receptive fields"
    label = "of this pattern"

    pattern: str


class UnknownToken(Diagnostic):
    code = "E361"
    message = "there is no token {token}"
    help = "tokens are numbered 0 to {last}"

    token: int
    last: int


class FieldLayers(Diagnostic):
    code = "E362"
    message = "a receptive field over {layers} layers cannot be computed"
    help = "give 0 to {limit} layers"

    layers: int
    limit: int

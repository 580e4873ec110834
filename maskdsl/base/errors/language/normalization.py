"""E353 to E355: errors of `normalize` and `sink`. Raised by `bind`."""

from maskdsl.base.diagnostics import Diagnostic


class UnknownNormalization(Diagnostic):
    code = "E353"
    message = "scores are not normalized by `{text}`"
    label = "unknown"
    help = (
        "`normalize none` takes the scores for probabilities, `normalize softmax by k` takes one softmax for each key;"
        " without such a line there is one for each query"
    )

    text: str


class SinkReadsKey(Diagnostic):
    code = "E354"
    message = "a sink reads {what}"
    label = "{what}"
    help = "a sink is a score of the query without any key: it may read `q`, `head`, `batch` and inputs"

    what: str


class SinkWithoutSoftmax(Diagnostic):
    code = "E355"
    message = "a sink has no meaning under `normalize {normalize}`"
    label = "a share of the softmax of a query"
    help = "sinks go with one softmax for each query"

    normalize: str

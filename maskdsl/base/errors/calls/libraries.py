"""Errors of patterns in other libraries (FlexAttention, transformers, diffusers) and of imported masks."""

from maskdsl.base.diagnostics import Caution, Diagnostic


class FlexPooled(Diagnostic):
    code = "E601"
    message = "`{pattern}` pools tokens, which FlexAttention cannot do"
    label = "this pattern"
    help = "call maskdsl's own attention(q, k, v) instead"

    pattern: str


class FlexWeight(Diagnostic):
    code = "E602"
    message = "`{pattern}` weighs probabilities after the softmax, but FlexAttention can only change scores before it"
    label = "this pattern"
    help = "call maskdsl's own attention(q, k, v) instead"

    pattern: str


class FlexFactor(Diagnostic):
    code = "E604"
    message = "`{pattern}` weighs outputs by a `weight` that reads the query alone, which is no score of FlexAttention"
    label = "this pattern"
    help = "leave the `weight` out of the pattern, and multiply the output of `flex_attention` by it"

    pattern: str


class FlexSink(Diagnostic):
    code = "E605"
    message = "`{pattern}` has sinks, but FlexAttention takes the softmax of the keys alone"
    label = "this pattern"
    help = (
        "leave the `sink` out of the pattern: `out, lse = flex_attention(..., return_lse=True)`, and the output is "
        "`out * torch.sigmoid(lse - sink)[..., None]`"
    )

    pattern: str


class FlexNormalization(Diagnostic):
    code = "E496"
    message = "`{pattern}` has a normalization of its own, but FlexAttention takes the softmax of each query"
    label = "this pattern"
    help = "call maskdsl's own attention(q, k, v) instead"

    pattern: str


class FlexRoute(Diagnostic):
    code = "E603"
    message = "`{pattern}` has routes or ranks, which are found beside attention; FlexAttention only computes pairs"
    label = "this pattern"
    help = "call maskdsl's own attention(q, k, v) instead"

    pattern: str


class FlexProduct(Diagnostic):
    code = "E377"
    message = "`{pattern}` multiplies vectors, which FlexAttention does not pass to its functions"
    label = "this pattern"
    help = "call maskdsl's own attention(q, k, v) instead"

    pattern: str


class MissingLibrary(Diagnostic):
    code = "E610"
    message = "{what} needs {library}, which cannot be imported: {reason}"
    help = 'pip install "maskdsl[{extra}]"'

    what: str
    library: str
    extra: str
    reason: str


class NotAPattern(Diagnostic):
    code = "E611"
    message = "a pattern is expected, and a {found} is given"
    help = "give a pattern, maskdsl.load(path)[name], or what its `bind` or `compile` makes"

    found: str


class TakenName(Diagnostic):
    code = "E612"
    message = "`{name}` is the name of an attention implementation of {library}"
    help = "register the pattern under another name, without `|` and `flash`"

    name: str
    library: str


class NoPatternForLayer(Diagnostic):
    code = "E613"
    message = "`{name}` has no pattern for layer {layer}, which is of the type {kind}"
    help = "there are patterns for {known}"

    name: str
    layer: int | None
    kind: str | None
    known: str


class ForeignMask(Diagnostic):
    code = "E614"
    message = "the model applies {what}, which the pattern `{name}` does not describe"
    help = (
        'describe it in the pattern, with an input if it depends on tokens, and confirm that by masks="pattern"; or '
        "give None as the pattern of this layer, so that the model computes it"
    )

    name: str
    what: str


class AskedMore(Diagnostic):
    code = "E615"
    message = "the model asks its attention for `{argument}`, which the pattern `{name}` does not compute"
    help = "{cure}"

    name: str
    argument: str
    cure: str


class DroppedKeys(Diagnostic):
    code = "E616"
    message = "`{pattern}` attends tokens {distance} or more positions back, which the model's cache has dropped"
    label = "this pattern"
    help = "set `sliding_window` in the model's configuration to at least the reach of the pattern"

    pattern: str
    distance: int


class AlreadyBound(Diagnostic):
    code = "E617"
    message = "{names} cannot be given for a mask that is bound already"
    help = "give the pattern instead of its mask"

    names: str


class NoAttention(Diagnostic):
    code = "E618"
    message = "`{model}` has no attention layer with a processor"
    help = "give the transformer of a pipeline, pipeline.transformer"

    model: str


class NoSelfAttention(Diagnostic):
    code = "E619"
    message = "`{name}` did not call torch's attention, so the pattern was not computed"
    help = 'set the model to the "native" backend, which `{processor}` calls: model.set_attention_backend("native")'

    name: str
    processor: str


class NotPairs(Diagnostic):
    code = "E620"
    message = "a mask that {found} does not say which pairs attend"
    help = (
        "give booleans, or floats that are 0 or -inf, of the shape [queries, keys], with heads, or batch entries and "
        "heads, in front"
    )

    found: str


class WrongGrid(Diagnostic):
    code = "E621"
    message = "the grid {grid} does not have {queries} queries and {keys} keys"
    help = "give the two or three axis lengths of the grid that holds all tokens"

    grid: tuple[int, ...]
    queries: int
    keys: int


class FailingPredicate(Diagnostic):
    code = "E622"
    message = "the mask function failed with {kind}: {text}"
    help = "it must take (batch, head, query, key), torch tensors that broadcast, and return booleans"

    kind: str
    text: str


class UnevenHeads(Diagnostic):
    code = "E623"
    message = "{what} cannot be divided evenly among {heads} heads"
    help = (
        "the number of heads must divide the features, unless `head_dim` is given; the number of key heads must "
        "divide the number of query heads"
    )

    what: str
    heads: int


class OddHeadDim(Diagnostic):
    code = "E624"
    message = "rotary position embeddings rotate pairs of features, and the head dimension is odd"
    help = "use an even head dimension"


class OtherAttention(Diagnostic):
    code = "E625"
    message = "this layer has keys of another size, or added keys, which `SelfAttention` does not support"
    help = "give a layer without these"


class NoInterface(Diagnostic):
    code = "E626"
    message = "`{model}` does not look its attention up by name{part}, so it would ignore the pattern `{name}`"
    help = "leave this to the model: set_attn_implementation takes a dictionary, by the names of sub-configurations"

    name: str
    model: str
    part: str


class UnclearRole(Diagnostic):
    code = "E627"
    message = "`{model}` has attention in an encoder and in a decoder, and `{name}` does not say which one it is for"
    help = (
        'register("{name}", {{"self": pattern, "encoder": None}}); None leaves the attention of this role to the model'
    )

    name: str
    model: str


class UnknownMasks(Diagnostic):
    code = "E628"
    message = 'masks={found} is neither "refuse" nor "pattern"'
    help = 'masks="pattern" confirms that the pattern describes everything that the model\'s own masks do'

    found: str


class ReadsMask(Diagnostic):
    code = "E629"
    message = "`{part}` of `{model}` builds a mask of its own, which the pattern `{name}` does not describe"
    help = "leave this model to its own attention: a pattern cannot describe the keys that it selects"

    name: str
    model: str
    part: str


class ShortInput(Diagnostic):
    code = "E631"
    message = "the input `{name}` has {found} entries along its tokens, and the call has tokens up to {needed}"
    label = "declared here"
    help = "give an entry for every token from the first one on, those that will be generated included"

    name: str
    found: int
    needed: int


class NoBatchInput(Diagnostic):
    code = "E632"
    message = "padding puts the tokens of each batch entry elsewhere, and the input `{name}` is one for all entries"
    label = "declared here"
    help = "declare it with the dimension `batch`"

    name: str


class NotShardedModel(Diagnostic):
    code = "E633"
    message = "`{model}` cannot have its tokens on several processes: {reason}"
    help = "{advice}"

    model: str
    reason: str
    advice: str


class NotShardedBatch(Diagnostic):
    code = "E634"
    message = "`{argument}` of a batch for several processes {reason}"
    help = "{advice}"

    argument: str
    reason: str
    advice: str


class TooManyAsked(Diagnostic):
    code = "E630"
    message = "the mask function would be called for {count:,} pairs"
    help = "at most {limit:,} are allowed; give fewer queries and keys, or one of the heads and batch entries"

    count: int
    limit: int


class NotBoolean(Diagnostic):
    code = "E640"
    message = "the mask function returns {found}, and a mask says True or False of each pair"
    help = (
        "return a comparison; what changes scores is no mask, but a `score` line of a pattern, and numbers that count "
        "as True are compared: `number != 0`"
    )

    found: str


class NotServed(Diagnostic):
    code = "E641"
    message = "{what} cannot be computed over the pages of a cache: {reason}"
    help = "a pattern of causal self-attention can be served, and None leaves a layer to the model"

    what: str
    reason: str


class ShortPattern(Diagnostic):
    code = "E642"
    message = "`{pattern}` has {found} tokens, and sequences may have up to {needed}"
    label = "this pattern"
    help = "bind it for the longest sequence, or limit that: `--max-model-len {found}`"

    pattern: str
    found: int
    needed: int


class WrongVariable(Diagnostic):
    code = "E643"
    message = "`{name}` is {text!r}: {reason}"
    help = "write `file.attn:pattern`, `file.attn:pattern(size=256)`, or by layers `sliding_attention=...; 3=...`"

    name: str
    text: str
    reason: str


class NotRecognized(Caution):
    code = "W040"
    message = (
        "no pattern was recognised: each call reads a table of {shape} pairs ({size:,} bytes), for these lengths "
        "alone, and looks its tiles up in it"
    )
    help = "write the pattern, as docs/language.md shows, or give the axis lengths of an image or a video: grid=(h, w)"

    shape: str
    size: int

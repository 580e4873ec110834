"""What can be wrong where other libraries meet patterns: FlexAttention, transformers, diffusers, imported masks."""

from maskdsl.base.diagnostics import Diagnostic


class FlexPooled(Diagnostic):
    code = "E601"
    message = "`{pattern}` pools keys, which FlexAttention cannot"
    label = "this pattern"
    help = "attention(q, k, v) of maskdsl pools them"

    pattern: str


class FlexWeight(Diagnostic):
    code = "E602"
    message = "`{pattern}` weighs probabilities after the softmax, and FlexAttention changes scores before it alone"
    label = "this pattern"

    pattern: str


class FlexRoute(Diagnostic):
    code = "E603"
    message = "`{pattern}` finds pairs in queries and keys, which FlexAttention does not show to its functions"
    label = "this pattern"

    pattern: str


class MissingLibrary(Diagnostic):
    code = "E610"
    message = "`{module}` needs the library {library}, which cannot be imported: {reason}"
    help = 'pip install "maskdsl[{library}]"'

    module: str
    library: str
    reason: str


class NotAPattern(Diagnostic):
    code = "E611"
    message = "a {found} is given where a pattern is asked for"
    help = "give a pattern, maskdsl.load(path)[name], or what its `bind` or `compile` makes"

    found: str


class TakenName(Diagnostic):
    code = "E612"
    message = "`{name}` is an attention implementation of {library} itself"
    help = "register the pattern under a name of its own, without `/` and `|`"

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
    message = "the model asks for {what}, of which the pattern `{name}` knows nothing"
    help = (
        'say it in the pattern, with an input where tokens decide, and vouch for it by masks="pattern"; '
        "or leave the layer to the model, with None as its pattern"
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
    message = "`{pattern}` attends tokens {distance} and more back, and the model's cache has dropped them"
    label = "this pattern"
    help = "let the `sliding_window` of the model's configuration be as long as the pattern reaches"

    pattern: str
    distance: int


class AlreadyBound(Diagnostic):
    code = "E617"
    message = "{names} is given for what has been bound already"
    help = "give the pattern in place of its mask"

    names: str


class NoAttention(Diagnostic):
    code = "E618"
    message = "`{model}` has no attention with a processor"
    help = "give the transformer of a pipeline, pipeline.transformer"

    model: str


class NoSelfAttention(Diagnostic):
    code = "E619"
    message = "`{name}` has not asked torch for attention, so that no pattern was computed"
    help = 'let the model use the "native" backend, model.set_attention_backend("native"); `{processor}` calls it'

    name: str
    processor: str


class NotPairs(Diagnostic):
    code = "E620"
    message = "a mask that {found} does not say which pairs attend"
    help = "give booleans [queries, keys], or heads, or batch entries and heads, in front; or floats, 0 and -inf"

    found: str


class WrongGrid(Diagnostic):
    code = "E621"
    message = "the grid {grid} is not that of {queries} queries and {keys} keys"
    help = "give the two or three lengths of a grid on which all tokens stand"

    grid: tuple[int, ...]
    queries: int
    keys: int


class FailingPredicate(Diagnostic):
    code = "E622"
    message = "the function of pairs failed with {kind}: {text}"
    help = "it takes (batch, head, query, key), tensors of torch that broadcast, and gives booleans"

    kind: str
    text: str


class UnevenHeads(Diagnostic):
    code = "E623"
    message = "{what} are not shared evenly by {heads} heads"
    help = "heads divide the features, unless `head_dim` is given, and heads of keys and values divide those of queries"

    what: str
    heads: int


class OddHeadDim(Diagnostic):
    code = "E624"
    message = "rotary position embeddings turn pairs of features, and the head dimension is odd"


class OtherAttention(Diagnostic):
    code = "E625"
    message = "this layer has dropout, keys of another size, or keys of its own, which `SelfAttention` has not"


class NoInterface(Diagnostic):
    code = "E626"
    message = "`{model}` does not ask for its attention by name{part}, so that it would ignore the pattern `{name}`"
    help = "leave it to the model: set_attn_implementation takes a dictionary, by the names of sub-configurations"

    name: str
    model: str
    part: str


class UnclearRole(Diagnostic):
    code = "E627"
    message = "`{model}` has attention of an encoder and of a decoder, and `{name}` does not say which it is of"
    help = 'register("{name}", {{"self": pattern, "encoder": None}}); None leaves what has this role to the model'

    name: str
    model: str


class UnknownMasks(Diagnostic):
    code = "E628"
    message = 'masks={found} is neither "refuse" nor "pattern"'
    help = 'masks="pattern" vouches that the pattern says all that the masks of the model say'

    found: str


class ReadsMask(Diagnostic):
    code = "E629"
    message = "`{part}` of `{model}` makes a mask of its own, of which the pattern `{name}` knows nothing"
    help = "leave the model to its own attention: the keys that it selects are not those of a pattern"

    name: str
    model: str
    part: str


class TooManyAsked(Diagnostic):
    code = "E630"
    message = "the function would be asked for {count:,} pairs"
    help = "at most {limit:,} are asked for; give fewer queries and keys, or one of the heads and batch entries"

    count: int
    limit: int

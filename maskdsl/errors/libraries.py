"""What can be wrong where other libraries meet patterns: FlexAttention, transformers, diffusers, imported masks."""

from maskdsl.diagnostics import Diagnostic


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

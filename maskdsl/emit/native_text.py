"""A mask to the text of `codegen/native.c` that computes it, below a comment that names the mask."""

from maskdsl.emit.header import c_header
from maskdsl.emit.native_scores import native_of_terms, plain_native
from maskdsl.emit.plan import make_plan
from maskdsl.ir.mask import MaskIR

_ARGUMENTS = (
    "What attends is in the arguments of a call: rows of queries; for each row the runs of panels of keys that it",
    "takes; and for panels of which only some pairs attend, a word of bits for each query. They are made of the tiles",
    "that `--stage tiles` prints, and what scores read beside products stands beside the words.",
)
_PLAIN = "Nothing below depends on the pattern: the text is the same for most, and compiled once for a machine."
_FILLED = "Scores and weights below are those of the pattern, but for their numbers, which are arguments too."


def emit_native(mask: MaskIR) -> str:
    """What the backend `native` compiles, with the pattern that it is read for in a comment above it."""
    terms = make_plan(mask).score_terms
    text = 'Attention on a CPU. Compiled by maskdsl, backend "native".'
    header = c_header(mask, text, (_PLAIN if terms is None else _FILLED, *_ARGUMENTS))
    return "\n".join([*header, "", (plain_native() if terms is None else native_of_terms(terms)).text])

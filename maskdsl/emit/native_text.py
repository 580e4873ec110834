"""A mask to the texts of `codegen/native.c` that compute it, below comments that name the mask."""

from collections.abc import Iterator

from maskdsl.emit.header import c_header
from maskdsl.emit.native_scores import NativeText, native_of_terms, plain_native
from maskdsl.emit.plan import make_plan
from maskdsl.ir.mask import MaskIR, Normalize
from maskdsl.ir.rewrites.transpose import transposed, without_softmax

_TEXT = 'Attention on a CPU. Compiled by maskdsl, backend "native".'
_ARGUMENTS = (
    "What attends is in the arguments of a call: rows of queries; for each row the runs of panels of keys that it",
    "takes; and for panels of which only some pairs attend, a word of bits for each query. They are made of the tiles",
    "that `--stage tiles` prints, and what scores read beside products stands beside the words.",
)
_PLAIN = "Nothing below depends on the pattern: the text is the same for most, and compiled once for a machine."
_FILLED = "Scores and weights below are those of the pattern, but for their numbers, which are arguments too."


def emit_native(mask: MaskIR) -> str:
    """What the backend `native` compiles, with the pattern that it is read for in a comment above it.

    Branches with the same text share it; where each key has its softmax, a second text makes probabilities.
    """
    texts: dict[NativeText, MaskIR] = {}
    for each in _computed(mask):
        terms = make_plan(each).score_terms
        texts.setdefault(plain_native() if terms is None else native_of_terms(terms), each)
    return "\n".join(_below_header(mask, each.branch if len(texts) > 1 else "", text) for text, each in texts.items())


def _computed(mask: MaskIR) -> Iterator[MaskIR]:
    """The masks of which each has its kernel."""
    for each in mask.branches or (mask,):
        yield from (transposed(each), without_softmax(each)) if each.normalize is Normalize.BY_KEY else (each,)


def _below_header(mask: MaskIR, branch: str, text: NativeText) -> str:
    named = [f"Branch: {branch}"] if branch else []
    header = c_header(mask, _TEXT, (*named, _PLAIN if text == plain_native() else _FILLED, *_ARGUMENTS))
    return "\n".join([*header, "", text.text])

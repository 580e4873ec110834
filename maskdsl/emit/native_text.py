"""A mask to the text of `codegen/native.c` below a comment that names it. Nothing else of the text is the pattern's."""

from maskdsl.emit.header import c_header
from maskdsl.emit.skeleton import read_c
from maskdsl.ir.mask import MaskIR

_ARGUMENTS = (
    "Nothing below depends on the pattern: the text is the same for all, and compiled once for a machine. What attends",
    "is in the arguments of a call: rows of queries; for each row the runs of panels of keys that it takes; and for",
    "panels of which only some pairs attend, a word of bits for each query. They are made of the tiles that",
    "`--stage tiles` prints, and what scores add stands beside the words.",
)


def emit_native(mask: MaskIR) -> str:
    """What the backend `native` compiles, with the pattern that it is read for in a comment above it."""
    text = 'Attention on a CPU. Compiled by maskdsl, backend "native".'
    return "\n".join([*c_header(mask, text, _ARGUMENTS), "", read_c("native")])

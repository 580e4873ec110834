"""The functions of `codegen/triton_functions.py` that kernels call."""

from collections.abc import Iterable

from maskdsl.emit.skeleton import read_skeleton
from maskdsl.emit.torch.pattern_functions import helper
from maskdsl.ir.ops import TRITON_HELPERS

HELPERS = (
    "join_sink",
    "scaled_but_zeros",
    "as_bits",
    "bits_of_rows",
    "take_lowest",
    "has_bit",
    "find_entry",
    "inside",
    "power",
    "mix",
    "as_integers",
    "score_tanh",
    *TRITON_HELPERS,
)


def kernel_helpers(lines: Iterable[str]) -> list[list[str]]:
    """The functions of `codegen/triton_functions.py` that these lines of kernels call."""
    text, lines = read_skeleton("triton_functions"), list(lines)
    used = [name for name in HELPERS if any(f"{name}(" in line for line in lines)]
    return [["@triton.jit", *helper(text, name)] for name in used]

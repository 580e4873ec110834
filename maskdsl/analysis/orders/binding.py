"""The one way from a pattern, or a stack, and its parameters to masks: bound, with reads that stay inside their tables
for all pairs that attend, and laid out where they say `order auto`.

Nothing above this layer binds or looks for orders by itself, so that a mask is the same whoever asks for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from maskdsl.analysis.indices.in_bounds import in_bounds
from maskdsl.analysis.orders.auto import settled
from maskdsl.base.diagnostics import Caution
from maskdsl.bind import Together, bind, bind_stack
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.stack import StackIR
from maskdsl.syntax.program import Program


def bind_mask(
    program: Program, pattern: str, values: Mapping[str, object], heads: int | Heads = 1, order: str | None = None
) -> MaskIR:
    """The mask of the pattern of this name at these values, for `heads` query heads.

    `order` replaces the pattern's order: the text behind the word `order`, several joined by `; `, or `"declared"`.
    Raises `AttnError` with everything that is wrong.
    """
    return settled(in_bounds(bind(program, pattern, values, heads, order)))


def bind_layers(program: Program, stack: str, values: Mapping[str, object], heads: int | Heads = 1) -> StackIR:
    """The masks of the stack's layers at these values. Raises `AttnError` with everything that is wrong."""
    found = bind_stack(program, stack, values, heads)
    return replace(found, different=tuple(settled(in_bounds(each)) for each in found.different))


def check_defaults(program: Program, name: str, heads: int = 1, together: Together | None = None) -> Sequence[Caution]:
    """What is odd about a pattern or a stack at its defaults. Finds no orders.

    `together` is what others that are checked along with it have done. Raises `AttnError` with everything that is
    wrong.
    """
    if name in program.stacks:
        found = bind_stack(program, name, {}, heads, together)
        masks, cautions = found.different, found.cautions
    else:
        mask = bind(program, name, {}, heads, together=together)
        masks, cautions = (mask,), mask.cautions
    for each in masks:
        in_bounds(each)
    return cautions

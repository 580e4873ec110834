"""Binds patterns and stacks to masks: bound, with table reads checked, and with orders chosen for `order auto`.

Nothing above this layer calls `bind` or chooses orders, so all callers get the same mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from maskdsl.analysis.indices.in_bounds import in_bounds
from maskdsl.analysis.orders.auto import with_auto_orders
from maskdsl.base.diagnostics import Caution
from maskdsl.bind import Together, bind, bind_stack
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.stack import StackIR
from maskdsl.syntax.program import Program


def bind_mask(
    program: Program, pattern: str, values: Mapping[str, object], heads: int | Heads = 1, order: str | None = None
) -> MaskIR:
    """The mask of a pattern at these parameter values, for `heads` query heads.

    `order` replaces the pattern's order: the text after the word `order`, several joined by `; `, or `"declared"`.
    Raises `AttnError` with all errors.
    """
    return with_auto_orders(in_bounds(bind(program, pattern, values, heads, order)))


def bind_layers(program: Program, stack: str, values: Mapping[str, object], heads: int | Heads = 1) -> StackIR:
    """The masks of a stack's layers at these parameter values. Raises `AttnError` with all errors."""
    bound = bind_stack(program, stack, values, heads)
    return replace(bound, different=tuple(with_auto_orders(in_bounds(each)) for each in bound.different))


def check_defaults(program: Program, name: str, heads: int = 1, together: Together | None = None) -> Sequence[Caution]:
    """The warnings of a pattern or stack at its default values. Chooses no orders.

    `together` shares the work of declarations that are checked together. Raises `AttnError` with all errors.
    """
    if name in program.stacks:
        stack = bind_stack(program, name, {}, heads, together)
        masks, cautions = stack.different, stack.cautions
    else:
        mask = bind(program, name, {}, heads, together=together)
        masks, cautions = (mask,), mask.cautions
    for each in masks:
        in_bounds(each)
    return cautions

"""Binds patterns and stacks to masks: bound, with table reads checked, and with orders chosen for `order auto`.

Nothing above this layer calls `bind` or chooses orders, so all callers get the same mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from maskdsl.analysis.causal.claims import claimed
from maskdsl.analysis.indices.in_bounds import in_bounds
from maskdsl.analysis.indices.product_windows import narrowed
from maskdsl.analysis.lint.line_facts import mask_warnings
from maskdsl.analysis.lint.text_warnings import text_warnings
from maskdsl.analysis.lint.unused import unused_warnings
from maskdsl.analysis.tiles.draws import with_draws
from maskdsl.base.diagnostics import AttnError, Caution, Diagnostic
from maskdsl.bind import Together, bind, bind_stack
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.rewrites.branch_union import with_branches
from maskdsl.ir.stack import StackIR
from maskdsl.syntax.program import Program


def bind_mask(
    program: Program, pattern: str, values: Mapping[str, object], heads: int | Heads = 1, order: str | None = None
) -> MaskIR:
    """The mask of a pattern at these parameter values, for `heads` query heads.

    `order` replaces the pattern's order: the text after the word `order`, several joined by `; `, or `"declared"`.
    Raises `AttnError` with all errors.
    """
    return _ordered(_warned(_proven(with_draws(bind(program, pattern, values, heads, order))), program))


def bind_layers(program: Program, stack: str, values: Mapping[str, object], heads: int | Heads = 1) -> StackIR:
    """The masks of a stack's layers at these parameter values. Raises `AttnError` with all errors."""
    bound = bind_stack(program, stack, values, heads)
    different = (_ordered(_warned(_proven(with_draws(each)), program)) for each in bound.different)
    return replace(bound, different=tuple(different))


def check_defaults(
    program: Program, name: str, heads: int | Heads = 1, together: Together | None = None
) -> Sequence[Caution]:
    """The warnings of a pattern or stack at its default values, those of its text included. Chooses no orders.

    `together` shares the work of declarations that are checked together. Raises `AttnError` with all errors.
    """
    together = together or Together()
    cautions: list[Caution] = []
    if name in program.stacks:
        masks = bind_stack(program, name, {}, heads, together).different
        cautions += unused_warnings(program.stacks[name])
    else:
        masks = (bind(program, name, {}, heads, together=together),)
    for each in masks:
        cautions += _warned(_proven(with_draws(each)), program).cautions
    if name not in program.stacks:
        cautions += text_warnings(program, masks[0], together)
    return tuple({(each.code, each.span): each for each in cautions if each not in program.allowed}.values())


def _proven(mask: MaskIR) -> MaskIR:
    """The mask, or each branch, with table reads and claims checked, and windows of products narrowed.

    Raises `AttnError` with the errors of all branches.
    """
    if not mask.branches:
        return claimed(narrowed(in_bounds(mask)))
    branches: list[MaskIR] = []
    errors: list[Diagnostic] = []
    for each in mask.branches:
        try:
            branches.append(claimed(narrowed(in_bounds(each))))
        except AttnError as error:
            errors += (one for one in error.diagnostics if one not in errors)
    if errors:
        raise AttnError(*errors)
    return with_branches(mask, branches)


def _ordered(mask: MaskIR) -> MaskIR:
    if not mask.auto:
        return mask
    from maskdsl.analysis.orders.auto import with_auto_orders  # start-up time

    return with_auto_orders(mask)


def _warned(mask: MaskIR, program: Program) -> MaskIR:
    """The mask with the warnings of its relation as a whole."""
    cautions = tuple(each for each in mask_warnings(mask) if each not in program.allowed)
    return replace(mask, cautions=(*mask.cautions, *cautions)) if cautions else mask

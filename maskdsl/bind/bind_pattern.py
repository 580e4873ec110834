"""Binds a pattern of the tree and values for its parameters to a `MaskIR`, whole or branch by branch."""

from collections.abc import Mapping
from dataclasses import replace

from maskdsl.base.diagnostics import AttnError, nearest_name
from maskdsl.base.errors.language.patterns import NoOrder, NoSuchPattern
from maskdsl.base.errors.language.stacks import StackAsPattern
from maskdsl.base.source import Source
from maskdsl.bind.bound_heads import checked_heads
from maskdsl.bind.bound_mask import bound_mask
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.report import Report, Together, WorkSpent
from maskdsl.bind.opened_pattern import check_counts, opened, with_tokens
from maskdsl.bind.statement.branch_statements import BranchPattern, branch_patterns
from maskdsl.bind.statement.empty_spaces import inputs_left_out
from maskdsl.bind.statement.parameters import plain, unknown_axes
from maskdsl.bind.statement.unread_inputs import unread_inputs
from maskdsl.bind.token_declarations import with_inputs_and_coordinates, with_routes
from maskdsl.bind.visible_names import Names
from maskdsl.ir.heads import Heads
from maskdsl.ir.invariants import verify
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.idle_routes import without_idle_routes
from maskdsl.ir.rewrites.branch_union import with_branches
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse_statement
from maskdsl.syntax.program import Program

_ORDER_WORDS = {"by", "auto"}
"""One of them is in every `order` statement."""


def bind(
    program: Program,
    pattern: str,
    values: Mapping[str, object],
    heads: int | Heads = 1,
    order: str | None = None,
    together: Together | None = None,
) -> MaskIR:
    """The mask of the named pattern at these values, for `heads` query heads, or for some heads of an attention.

    `order` replaces the pattern's order: the text after the word `order`, several joined by `; `, or `"declared"`.
    `together` counts the work of all patterns that are bound for the same answer. Raises `AttnError` with all mistakes.
    """
    report = Report(work=WorkSpent(together=together or Together()))
    whole = checked_heads(heads, report)
    written = find_pattern(program, pattern)
    declaration = with_tokens(program, written, values, whole)
    parameters, names, frame = opened(program, declaration, values, whole, report)
    unknown_axes(parameters, declaration, frame)
    orders = order_statements(declaration, order)
    if any(isinstance(each, tree.BranchStatement) for each in declaration.statements):
        mask = _branched(declaration, names, frame, orders)
    else:
        mask = bound_mask(declaration, names, frame, orders)
    report.check()
    if "key_heads" in frame.declared.of_call and whole.key_heads is None:  # then the mask is for so many
        return bind(program, pattern, values, replace(whole, key_heads=whole.whole), order, together)
    shown = tuple((name, plain(value)) for name, value in parameters.items())
    cautions = tuple(each for each in report.cautions.values() if each not in program.allowed)
    here = None if whole == Heads(whole.whole) else whole
    if declaration is not written:
        mask = replace(mask, unread=(*mask.unread, *inputs_left_out(written, declaration)))
    mask = replace(mask.throughout(lambda each: replace(each, parameters=shown, whole=here)), cautions=cautions)
    verify(mask)
    return mask


def frame_at(
    program: Program, pattern: str, values: Mapping[str, object], heads: int | Heads = 1, branch: str = ""
) -> tuple[tree.PatternDeclaration, Names, Frame]:
    """A pattern or its branch, and the names and declarations that its expressions see, for tools that show values.

    Raises `AttnError` if lengths are wrong. All other errors are in the frame's report.
    """
    report = Report()
    whole = checked_heads(heads, report)
    declaration = with_tokens(program, find_pattern(program, pattern), values, whole)
    _, names, frame = opened(program, declaration, values, whole, report)
    for each in branch_patterns(declaration, replace(frame, names=names.last)) if branch else ():
        if branch in (each.name, each.statement.name.id):
            declaration, names = each.declaration, names.of(each.declaration)
            break
    frame = with_inputs_and_coordinates(declaration, names, frame)
    return declaration, names, with_routes(declaration, names, frame)


def branches_of(
    program: Program, pattern: str, values: Mapping[str, object], heads: int | Heads = 1
) -> tuple[BranchPattern, ...]:
    """The branches of a pattern at these values; none of a pattern without any. Raises `AttnError` for wrong ones."""
    declaration, report = find_pattern(program, pattern), Report()
    if not any(isinstance(each, tree.BranchStatement) for each in declaration.statements):
        return ()
    whole = checked_heads(heads, report)
    declaration = with_tokens(program, declaration, values, whole)
    _, names, frame = opened(program, declaration, values, whole, report)
    branches = branch_patterns(declaration, replace(frame, names=names.last))
    report.check()
    return branches


def find_pattern(program: Program, name: str) -> tree.PatternDeclaration:
    """The pattern of this name, from any of the program's files. Raises `AttnError` (E201, E270)."""
    declaration = program.patterns.get(name)
    report = Report()
    if declaration is not None:
        return declaration
    if name in program.stacks:
        report.stop(StackAsPattern(span=program.stacks[name].name.span, name=name))
    standard = program.standard.span.source
    known = [each for each, pattern in program.patterns.items() if pattern.span.source is not standard]
    hint = "the patterns are " + ", ".join(f"`{each}`" for each in known) if known else "the file declares no pattern"
    report.stop(NoSuchPattern(name=name, known=hint, nearest=nearest_name(name, program.patterns)))
    raise AssertionError


def order_statements(declaration: tree.PatternDeclaration, order: str | None) -> tuple[tree.Statement, ...]:
    """The statements with the orders to apply: the pattern's own, or those that replace them."""
    if order == "declared":
        return ()
    if order is None:
        return declaration.statements
    texts = [each.strip() for each in order.split(";")]
    wrong = [NoOrder(text=each) for each in texts if not _ORDER_WORDS & {*each.split()}]
    if wrong:
        raise AttnError(*wrong)
    return tuple(parse_statement(Source("<order>", f"order {each}")) for each in texts)


def _branched(
    declaration: tree.PatternDeclaration, names: Names, frame: Frame, orders: tuple[tree.Statement, ...]
) -> MaskIR:
    """Binds the branches of a pattern, each as a pattern of its own. Of an unrolled one, the first mistakes suffice."""
    branches = branch_patterns(declaration, replace(frame, names=names.last))
    orders = tuple(each for each in orders if isinstance(each, tree.OrderStatement | tree.AutoOrderStatement))
    masks: list[MaskIR] = []
    wrong: list[tree.BranchStatement] = []
    for each in branches:
        if any(each.statement is other for other in wrong):
            continue
        inside = replace(frame, report=frame.report.trial())
        inner = Names(each.declaration, replace(names.frame, report=inside.report))
        check_counts(each.declaration, frame)
        try:
            mask = bound_mask(each.declaration, inner, inside, orders)
            masks.append(replace(without_idle_routes(mask), branch=each.name, span=each.statement.name.span))
        except AttnError:
            wrong.append(each.statement)
        frame.report.take(inside.report)
        frame.report.adopt(inside.report)
    frame.report.check()
    known = {each.name: each for mask in masks for each in mask.given}
    declared = (each.name.id for each in declaration.statements if isinstance(each, tree.InputStatement))
    inputs = tuple(known[name] for name in declared if name in known)
    unread = unread_inputs(declaration, orders)
    whole = replace(masks[0], branch="", span=declaration.name.span, unread=unread, inputs=inputs)
    return with_branches(whole, masks)

"""All warnings about the text of a pattern with its defaults."""

from collections.abc import Iterator

from maskdsl.analysis.causal.claims import causal_warnings
from maskdsl.analysis.lint.line_facts import line_warnings
from maskdsl.analysis.lint.unused import unused_warnings
from maskdsl.base.diagnostics import AttnError, Caution
from maskdsl.base.errors.language.warnings import LineWithoutPairs, TooSmall
from maskdsl.bind import Together, bind
from maskdsl.ir.mask import MaskIR
from maskdsl.syntax.program import Program

_MOST_CHANGED = 16
"""The most parameters whose values are changed."""
_MANY_HEADS = 64


def text_warnings(program: Program, mask: MaskIR, together: Together) -> Iterator[Caution]:
    """The warnings about the text of a pattern, bound at its defaults: of names that nothing reads, and of lines.

    A line that is idle for one value of a parameter alone, such as a shift of 0, is what the parameter is for: what is
    said of lines holds with each parameter changed, and with other heads, as well.
    """
    yield from unused_warnings(program.patterns[mask.name])
    yield from causal_warnings(mask)
    warnings = [each for each in line_warnings(mask) if each not in program.allowed]
    warnings = [each for each in warnings if not _is_allowed_size(each, program)]
    for values, heads in _changes(mask):
        if not warnings:
            return
        try:
            changed = bind(program, mask.name, values, heads, together=together)
        except AttnError:  # these values are not allowed
            continue
        lasting = {(each.code, each.span) for each in line_warnings(changed, {*map(type, warnings)})}
        warnings = [each for each in warnings if (each.code, each.span) in lasting]
    yield from warnings


def _is_allowed_size(caution: Caution, program: Program) -> bool:
    """Whether a line attends nothing because of a size that a comment allows."""
    if not isinstance(caution, LineWithoutPairs) or caution.span is None:
        return False
    return program.allowed.reaches(TooSmall.code, caution.span)


def _changes(mask: MaskIR) -> Iterator[tuple[dict[str, object], int]]:
    """Values of parameters and numbers of heads, one of them another one than the mask has: first of what is off."""
    for name, value in sorted(mask.parameters[:_MOST_CHANGED], key=lambda each: bool(each[1])):
        yield from (({name: changed}, mask.heads) for changed in _changed(value))
    yield {}, _MANY_HEADS


def _changed(value: object) -> tuple[object, ...]:
    """Other values of a parameter: of numbers, a greater and a smaller one."""
    match value:
        case bool():
            return (not value,)
        case int() | float():
            return 2 * value + 1, value // 2
        case tuple() if all(isinstance(each, int) for each in value):
            return tuple(2 * each + 1 for each in value), tuple(each // 2 for each in value)
        case _:
            return ()

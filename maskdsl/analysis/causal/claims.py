"""Checks what patterns say of their causality, and finds what they were probably not meant to select by."""

from collections.abc import Iterator

from maskdsl.analysis.causal.causality import causality, looks_back
from maskdsl.base.diagnostics import AttnError, Caution
from maskdsl.base.errors.language.routes import NotCausal
from maskdsl.base.errors.language.warnings import LooksAhead
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routes import Route


def claimed(mask: MaskIR) -> MaskIR:
    """The mask. Raises `AttnError` (E381) for each `assert causal(...)` that does not hold, or may not."""
    if not mask.claims:
        return mask
    causal = {None if each.whole else each.name: each for each in causality(mask)}
    wrong = [
        NotCausal(span=each.span, text=each.message, reason=causal[each.route].reason)
        for each in mask.claims
        if not causal[each.route].holds
    ]
    if wrong:
        raise AttnError(*wrong)
    return mask


def causal_warnings(mask: MaskIR) -> Iterator[Caution]:
    """The warnings of routes that look ahead, in a pattern that attends no later token."""
    routes = {each.name: each for each in mask.routed if isinstance(each, Route)}
    if not routes or not looks_back(mask):
        return
    for each in causality(mask):
        if each.name in routes and not each.whole and not each.holds and each.certain:
            yield LooksAhead(span=routes[each.name].span, route=each.name, reason=each.reason)

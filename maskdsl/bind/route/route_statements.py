"""Binds `route` statements."""

from dataclasses import replace

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.syntax import OldForm, StrayBy
from maskdsl.bind.context.bound_values import BAD, Bad
from maskdsl.bind.context.call_arguments import match_arguments
from maskdsl.bind.context.frame import Declared, Frame
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.bind.route.cluster_routes import balanced, nearest
from maskdsl.bind.route.draw_statements import drawn
from maskdsl.bind.route.selected_routes import selected
from maskdsl.syntax import tree

SELECTORS = {
    "topk": ("count", "score", "per"),
    "topp": ("mass", "score", "per", "weights", "reach"),
    "above": ("threshold", "score"),
    "nearest": ("centroids",),
    "balanced": ("size", "centroids"),
    "draw": ("count", "seed"),
}
_OPTIONAL = {"topk": frozenset({"per"}), "topp": frozenset({"score", "per", "weights", "reach"})}


def with_route(statement: tree.RouteStatement, frame: Frame, elaborate: Elaborate) -> Declared:
    """The declarations with the route added; with its name marked bad, and a report, if it is wrong."""
    declared, name = frame.declared, statement.name.id
    call = statement.selector
    assert isinstance(call, tree.Call)
    new: Declared | Bad = BAD
    if call.function.id not in SELECTORS:
        similar = frame.nearest(call.function.id, SELECTORS)
        frame.add(route_errors.UnknownSelector(span=call.function.span, name=call.function.id, nearest=similar))
    elif call.function.id == "draw":
        new = drawn(statement, call, frame, elaborate)
    else:
        given = _arguments(call, frame)
        match call.function.id:
            case _ if given is None:
                pass
            case "nearest":
                new = nearest(statement, given["centroids"], frame)
            case "balanced":
                new = balanced(statement, given, frame, elaborate)
            case _:
                new = selected(statement, given, frame, elaborate)
    return replace(declared, bad_names=declared.bad_names | {name}) if isinstance(new, Bad) else new


def _arguments(call: tree.Call, frame: Frame) -> dict[str, tree.Expression] | None:
    """The arguments of a selector by name; None, with a report, if any is wrong."""
    for each in call.arguments:
        if each.by is not None:
            frame.add(StrayBy(span=each.by.span))
            return None
        if call.function.id == "topp" and each.name is not None and each.name.id == "over":
            frame.add(OldForm(span=each.span, text=f"per = {each.value.span.text}"))
            return None
    return match_arguments(frame, call, SELECTORS[call.function.id], _OPTIONAL.get(call.function.id, frozenset()))

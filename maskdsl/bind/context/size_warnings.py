"""Warns about sizes in calls of the standard library's macros: that hold for no pair, or for more than was meant."""

from dataclasses import replace

from maskdsl.base.errors.language.warnings import EvenWindow, LargeNeighborhood, TooSmall
from maskdsl.bind.context.bound_values import AxisValue, Term, Value
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.reading import length
from maskdsl.syntax import tree

_LEAST = {
    "window": ("size", 0),
    "backward": ("size", 1),
    "sinks": ("count", 1),
    "prefix": ("length", 1),
    "globals_first": ("count", 1),
    "neighborhood": ("size", 1),
    "neighborhood_causal": ("size", 1),
    "diamond": ("radius", 0),
}
"""The least values of parameters of macros for which some pair can attend."""


def warn_of_sizes(macro: str, call: tree.Call, frame: Frame) -> None:
    """Warns (W010 to W012) of a call of a macro of the standard library, whose arguments the frame has as names.

    0 may stand for nothing where it is the value of a parameter, so it is warned of where it is written.
    """
    frame = replace(frame, calls=frame.calls[:-1])
    name, least = _LEAST.get(macro, ("", 0))
    value = _known(frame.names.get(name))
    if value is None:
        return
    if value < (least if _is_written(call) else min(least, 0)):
        frame.warn(TooSmall(span=call.span, macro=macro, name=name, value=value, least=least))
    elif macro == "window" and value > 0 and value % 2 == 0 and _is_written(call):
        frame.warn(EvenWindow(span=call.span, size=value, keys=value + 1, half=value // 2))
    elif macro in ("neighborhood", "neighborhood_causal"):
        _warn_of_neighborhood(value, call, frame)


def _warn_of_neighborhood(size: int, call: tree.Call, frame: Frame) -> None:
    axis, dilation = frame.names["axis"], _known(frame.names["dilation"])
    if not isinstance(axis, AxisValue) or dilation is None or dilation < 1:
        return
    known = length(replace(frame, report=frame.report.trial()), axis.name, call.span, frame.sides)
    whole = _known(known)
    if whole is not None and size > -(-whole // dilation):
        group = "" if dilation == 1 else f" in a group of dilation {dilation}"
        frame.warn(
            LargeNeighborhood(span=call.span, size=size, axis=axis.name, length=-(-whole // dilation), group=group)
        )


def _known(value: Value | None) -> int | None:
    return value.constant if isinstance(value, Term) and type(value.constant) is int else None


def _is_written(call: tree.Call) -> bool:
    """Whether the first argument of a call is a number in the text."""
    return any(isinstance(each.value, tree.Integer | tree.Unary) for each in call.arguments[:1])

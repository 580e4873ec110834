"""Binds the parameters of a pattern: values that the caller gives, and defaults."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isfinite
from operator import index
from typing import Any

import numpy as np

from maskdsl.base.diagnostics import Note, shown
from maskdsl.base.errors.language.limits import TooMany
from maskdsl.base.errors.language.names import DuplicateName, NameOfArgument, ReservedName
from maskdsl.base.errors.language.parameters import InputParameter, MissingParameter, UnknownParameter, WrongParameter
from maskdsl.base.errors.language.spaces import NotAxis
from maskdsl.bind.context.bound_values import BAD, AxesValue, AxisValue, Term, TupleValue, Value, constant
from maskdsl.bind.context.call_arguments import parameter_type
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.expression.macros import EXPECTED, Elaborate, axes_value, fitted
from maskdsl.bind.expression.names import OF_BINDING, RESERVED
from maskdsl.ir.facts.ranges import INT64
from maskdsl.syntax import tree

MOST_NAMES = 1000
"""The most parameters, or `let`s, of one declaration."""
_EXPECTED_VALUES = {
    **EXPECTED,
    "int": "an integer of 64 bits",
    "float": "a finite float",
    "axis": "the name of a coordinate",
    "axes": "a tuple of names of coordinates",
}


def check_number(nodes: Sequence[tree.Node], what: str, frame: Frame, most: int = MOST_NAMES) -> None:
    """Raises `AttnError` (E307) if there are too many nodes for one pattern or macro."""
    if len(nodes) > most:
        frame.report.stop(TooMany(span=nodes[most].span, count=len(nodes), what=what, limit=most), frame.calls)


def parameter_names(
    declaration: tree.PatternDeclaration | tree.StackDeclaration,
    values: Mapping[str, object],
    frame: Frame,
    elaborate: Elaborate,
) -> dict[str, Value]:
    """The value of every parameter by name; BAD, with a report, for wrong ones."""
    check_number(declaration.parameters, "parameters", frame)
    names: dict[str, Value] = {}
    known = [parameter.name.id for parameter in declaration.parameters]
    for name in values:
        if name not in known:
            frame.add(unknown_parameter(declaration, name, frame.nearest(name, known)))
    for parameter in declaration.parameters:
        name = parameter.name.id
        check_name(parameter.name, names, frame)
        check_argument(parameter.name, OF_BINDING, "a parameter", frame)
        if parameter.type is not None and parameter.type.id == "input":
            names[name] = frame.add(InputParameter(span=parameter.span, name=name))
        elif name in values:
            names[name] = _given(parameter, values[name], frame, replace(frame, names=names), elaborate)
        elif parameter.default is None:
            span, pattern = parameter.name.span, declaration.name.id
            names[name] = frame.add(MissingParameter(span=span, name=name, pattern=pattern))
        else:
            names[name] = _default(parameter, parameter.default, replace(frame, names=names), elaborate)
    return names


def unknown_parameter(
    declaration: tree.PatternDeclaration | tree.StackDeclaration, name: str, nearest: str | None
) -> UnknownParameter:
    """The error of a value for a parameter that a declaration does not have."""
    names = ", ".join(f"`{each.name.id}`" for each in declaration.parameters)
    known = f"its parameters are {names}" if names else "it has no parameters"
    at, pattern = declaration.name.span, declaration.name.id
    return UnknownParameter(span=at, pattern=pattern, name=name, known=known, nearest=nearest)


def check_name(name: tree.Name, known: Mapping[str, object], frame: Frame, kind: str = "a parameter") -> bool:
    """Whether a name may be declared; reports it otherwise."""
    if name.id in RESERVED:
        frame.add(ReservedName(span=name.span, name=name.id))
        return False
    if name.id in known:
        frame.add(DuplicateName(span=name.span, name=name.id, kind=f"there is already {kind} of this name"))
        return False
    return True


def check_argument(name: tree.Name, others: frozenset[str], kind: str, frame: Frame) -> bool:
    """Whether a name differs from the `others`, the arguments of the same Python calls; reports it otherwise."""
    if name.id in others:
        frame.add(NameOfArgument(span=name.span, name=name.id, kind=kind))
    return name.id not in others


def constant_value(
    parameter: tree.Parameter, node: tree.Expression, what: str, frame: Frame, elaborate: Elaborate
) -> Value:
    """The value of a constant expression for a parameter. `what` describes it in messages."""
    kind = parameter_type(frame, parameter)
    match kind, node:
        case None, _:
            return BAD
        case "axis" | "axes", tree.Name(id=name) if isinstance(named := frame.names.get(name), AxisValue | AxesValue):
            return named
        case "axis", tree.Name(id=name):  # spaces are not known yet; `unknown_axes` checks it later
            return AxisValue(name)
        case "axis", _:
            return frame.add(NotAxis(span=node.span))
        case "axes", tree.Tuple(items=items) if all(isinstance(item, tree.Name) for item in items):
            return AxesValue(tuple(item.id for item in items if isinstance(item, tree.Name)))
        case "axes", _:
            return axes_value(frame, node)
        case _:
            return fitted(frame, kind, elaborate(node, frame), what, node)


def _default(parameter: tree.Parameter, node: tree.Expression, frame: Frame, elaborate: Elaborate) -> Value:
    return constant_value(parameter, node, f"the default of `{parameter.name.id}`", frame, elaborate)


def _given(parameter: tree.Parameter, value: object, frame: Frame, scope: Frame, elaborate: Elaborate) -> Value:
    """A Python value converted to the parameter's type; BAD, with a report, if it does not fit."""
    kind = parameter_type(frame, parameter)
    if kind is None:
        return BAD
    made = _converted(kind, value)
    if isinstance(made, Term) and kind == "tuple":  # one number stands for every axis
        width = 0
        if parameter.default is not None:
            default = _default(parameter, parameter.default, scope, elaborate)
            width = len(default.items) if isinstance(default, TupleValue) else 0
        made = TupleValue((int(made.constant or 0),) * width) if width else None
    if made is None:
        name, span = parameter.name.id, parameter.name.span
        expected, hint = _EXPECTED_VALUES[kind], _whole_number(name, value)
        return frame.add(WrongParameter(span=span, name=name, found=shown(value), expected=expected, hint=hint))
    return made


def _whole_number(name: str, value: object) -> str:
    """How to give a parameter whose value is a whole number, but is written as a float or a text."""
    match value:
        case float() if value.is_integer() and int(value) in INT64:
            return f"write it without a point or exponent: {name}={int(value)}"
        case str() if re.fullmatch(r"-?[0-9]{1,18}", value):
            return f"give the number itself: {name}={int(value)}"
        case _:
            return ""


def _converted(kind: str, value: object) -> Value | None:
    match kind, value:
        case "bool", bool() | np.bool_():
            return constant(bool(value))
        case _, bool() | np.bool_():
            return None
        case "float", int() | float() | np.integer() | np.floating():
            return _finite(value)
        case "axis", str():
            return AxisValue(value) if value.isidentifier() else None
        case "axes", "all":
            return AxesValue(None)
        case "axes", str():
            return AxesValue((value,)) if value.isidentifier() else None
        case "axes", Sequence() if all(isinstance(each, str) and each.isidentifier() for each in value):
            return AxesValue(tuple(value))
        case "int" | "tuple", int() | np.integer():
            number = index(value)
            return constant(number) if number in INT64 else None
        case "tuple", Sequence() | np.ndarray() if not isinstance(value, str):
            entries = [_converted("int", each) for each in value]
            known = tuple(int(each.constant or 0) for each in entries if isinstance(each, Term))
            return TupleValue(known) if len(known) == len(entries) and entries else None
        case _:
            return None


def _finite(value: Any) -> Value | None:
    try:
        number = float(value)
    except OverflowError:
        return None
    return constant(number) if isfinite(number) else None


def plain(value: Value) -> object:
    """The Python value of a parameter."""
    match value:
        case Term():
            return value.constant
        case TupleValue(items=items):
            return items
        case AxisValue(name=name):
            return name
        case AxesValue(names=names):
            return "all" if names is None else names
        case _:
            raise AssertionError(value)


def unknown_axes(names: Mapping[str, Value], declaration: tree.PatternDeclaration, frame: Frame) -> None:
    """Reports parameters that name a coordinate which no token has."""
    known = [each for side in (frame.declared.queries, frame.declared.keys) for each in side.coordinate_names()]
    for parameter in declaration.parameters:
        match names[parameter.name.id]:
            case AxisValue(name=name):
                wanted: tuple[str, ...] = (name,)
            case AxesValue(names=tuple() as wanted):
                pass
            case _:
                wanted = ()
        for name in wanted:
            if name not in known and name not in frame.declared.bad_names:
                note = Note(f"the coordinates are {', '.join(known)}")
                frame.add(
                    WrongParameter(
                        span=parameter.name.span,
                        name=parameter.name.id,
                        found=f"`{name}`",
                        expected="the name of a coordinate",
                        notes=(note,),
                        nearest=frame.nearest(name, known),
                    )
                )

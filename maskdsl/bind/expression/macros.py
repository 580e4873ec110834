"""Expands macro calls, and applies the rule that a tuple argument stands for every axis of a space."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from maskdsl.base.diagnostics import Note
from maskdsl.base.errors.language.names import MacroRecursion, MissingCoordinate
from maskdsl.base.errors.language.spaces import AmbiguousLength, NoCommonAxes, TupleLength
from maskdsl.base.errors.language.tables import IndexOutOfBounds
from maskdsl.base.errors.language.types import Overflow, PossibleZero, TypeMismatch
from maskdsl.bind.context.bound_values import (
    BAD,
    Abbreviation,
    AxesValue,
    AxisValue,
    Bad,
    Term,
    TupleValue,
    Value,
    constant,
    describe,
)
from maskdsl.bind.context.call_arguments import match_arguments, parameter_type
from maskdsl.bind.context.frame import Frame
from maskdsl.bind.context.guards import assuming
from maskdsl.bind.context.reading import axis_name, common_axes
from maskdsl.bind.context.size_warnings import warn_of_sizes
from maskdsl.bind.context.terms import operate, promoted
from maskdsl.bind.expression.input_arguments import with_inputs
from maskdsl.ir.ops import Op, Type
from maskdsl.syntax import tree

Elaborate = Callable[[tree.Expression, Frame], Value]

_DEPENDS_ON_TOKENS = (
    MissingCoordinate,
    AmbiguousLength,
    NoCommonAxes,
    TupleLength,
    PossibleZero,
    Overflow,
    IndexOutOfBounds,
)
"""Errors that may disappear where a guard excludes some of the tokens."""

EXPECTED = {"int": "an integer", "float": "a float", "bool": "a boolean", "tuple": "a tuple of integers"}


def expand(call: tree.Call, macro: tree.MacroDeclaration, frame: Frame, elaborate: Elaborate) -> Value:
    """The value of the macro's body with the arguments of the call."""
    name = macro.name.id
    if name in frame.macros:
        return frame.add(MacroRecursion(span=call.span, name=name))
    note = Note(f"`{name}` is declared here", macro.name.span)
    optional = frozenset(each.name.id for each in macro.parameters if each.default is not None)
    names = [each.name.id for each in macro.parameters]
    given = match_arguments(frame, call, names, optional, note)
    if given is None:
        return BAD
    taking = with_inputs(macro, given, frame)
    if isinstance(taking, Bad):
        return BAD
    macro = taking
    given = _for_parameters(macro, given)
    inside = replace(
        frame,
        names={},
        bare_coordinates=False,
        calls=(*frame.calls, Note(f"in this call of `{name}`", call.span)),
        macros=(*frame.macros, name),
    )
    for parameter in macro.parameters:
        value = _argument(parameter, given.get(parameter.name.id), frame, inside, elaborate)
        inside = inside.naming(**{parameter.name.id: value})
    if any(isinstance(value, Bad) for value in inside.names.values()):
        return BAD
    tuples = {
        parameter.name.id: value
        for parameter in macro.parameters
        if isinstance(value := inside.names[parameter.name.id], TupleValue)
        and parameter_type(frame, parameter) == "int"
    }
    if not tuples:
        return _body(call, macro, inside, elaborate)
    axis = next((each.name.id for each in macro.parameters if parameter_type(frame, each) == "axis"), None)
    if axis is None or axis in given:
        argument = next(iter(tuples))
        what = f"the argument `{argument}` of `{name}`"
        span = given[argument].span
        return frame.add(TypeMismatch(span=span, what=what, found="a tuple", expected="an integer"))
    return _on_every_axis(call, macro, axis, tuples, inside, elaborate)


def _for_parameters(macro: tree.MacroDeclaration, given: Mapping[str, tree.Expression]) -> dict[str, tree.Expression]:
    """The arguments by the names that parameters have: those of inputs are no parameters any more."""
    names = {each.name.id.rstrip(): each.name.id for each in macro.parameters}
    return {names[name]: node for name, node in given.items() if name in names}


def _body(call: tree.Call, macro: tree.MacroDeclaration, frame: Frame, elaborate: Elaborate) -> Value:
    if macro.span.source is frame.declared.program.standard.span.source:
        warn_of_sizes(macro.name.id, call, frame)
    for let in macro.lets:
        frame = frame.naming(**{let.name.id: let_value(let, frame, elaborate)})
    return elaborate(macro.body, frame)


def _on_every_axis(
    call: tree.Call,
    macro: tree.MacroDeclaration,
    axis: str,
    tuples: Mapping[str, TupleValue],
    frame: Frame,
    elaborate: Elaborate,
) -> Value:
    """The conjunction of the macro's bodies on every axis of the space, each with its entry of the tuples."""
    outside = replace(frame, calls=frame.calls[:-1])
    width = len(next(iter(tuples.values())).items)
    axes = common_axes(outside, call.span, macro.name.id, width)
    if isinstance(axes, Bad):
        return BAD
    for value in tuples.values():
        if len(value.items) != len(axes):
            hint = f"the axes are {', '.join(axes)}"
            result, expected = len(value.items), len(axes)
            return outside.add(TupleLength(span=call.span, found=result, expected=expected, hint=hint))
    relations: list[Value] = []
    for number, each in enumerate(axes):
        entries: dict[str, Value] = {name: constant(value.items[number], call.span) for name, value in tuples.items()}
        relation = _body(call, macro, frame.naming(**entries, **{axis: AxisValue(each)}), elaborate)
        relations.append(relation)
        frame = assuming(frame, relation)
    return operate(outside, Op.AND, call.span, *relations)


def let_value(let: tree.LetStatement, frame: Frame, elaborate: Elaborate) -> Value:
    """The value of a `let`; an abbreviation, if its value depends on the tokens known where it is used."""
    trial = replace(frame, report=frame.report.trial())
    value = elaborate(let.value, trial)
    if not trial.report.errors:
        frame.report.adopt(trial.report)
        return value
    if all(isinstance(each, _DEPENDS_ON_TOKENS) for each in trial.report.errors.values()):
        return Abbreviation(let, frame.names)
    frame.report.take(trial.report)
    return BAD


def _argument(
    parameter: tree.Parameter, node: tree.Expression | None, frame: Frame, inside: Frame, elaborate: Elaborate
) -> Value:
    """The value of an argument, or of the default, which may read the parameters before it."""
    kind = parameter_type(frame, parameter)
    if node is None:
        assert parameter.default is not None
        node, frame = parameter.default, inside
    match kind:
        case "axis":
            name = axis_name(frame, node)
            return BAD if isinstance(name, Bad) else AxisValue(name)
        case "axes":
            return axes_value(frame, node)
        case None:
            return BAD
        case _:
            value = elaborate(node, frame)
            if kind == "tuple" and isinstance(value, Term) and type(value.constant) is int:
                value = _every_entry(value, parameter, inside, elaborate)
            return fitted(frame, kind, value, f"the argument `{parameter.name.id}`", node)


def _every_entry(number: Term, parameter: tree.Parameter, inside: Frame, elaborate: Elaborate) -> Value:
    """A tuple as long as the default, with this number in every entry; the number itself without such a default."""
    default = None if parameter.default is None else elaborate(parameter.default, inside)
    if not isinstance(default, TupleValue):
        return number
    assert isinstance(number.constant, int)
    return TupleValue((number.constant,) * len(default.items))


def axes_value(frame: Frame, node: tree.Expression) -> AxesValue | Bad:
    """`all`, `(y, x)`, or a parameter that stands for one of these."""
    match node:
        case tree.Name(id="all"):
            return AxesValue(None)
        case tree.Tuple(items=items):
            names = [axis_name(frame, item) for item in items]
            known = tuple(name for name in names if not isinstance(name, Bad))
            return AxesValue(known) if len(known) == len(names) else BAD
        case tree.Name(id=name) if isinstance(value := frame.names.get(name), AxesValue):
            return value
        case _:
            one = axis_name(frame, node)
            return BAD if isinstance(one, Bad) else AxesValue((one,))


def fitted(frame: Frame, kind: str, value: Value, what: str, node: tree.Expression) -> Value:
    """A value converted to a parameter's type; a tuple for an integer is kept, for the rule of tuples."""
    match kind, value:
        case _, Bad():
            return value
        case ("int", Term()) if value.type is Type.INT:
            return value
        case "int" | "tuple", TupleValue():
            return value
        case ("float", Term()) if value.type is not Type.BOOL:
            return promoted(frame, value)
        case ("bool", Term()) if value.type is Type.BOOL:
            return value
        case _:
            result, expected = describe(value), EXPECTED[kind]
            return frame.add(TypeMismatch(span=node.span, what=what, found=result, expected=expected))

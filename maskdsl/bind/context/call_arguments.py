"""Matches the arguments of calls to parameters, and finds the types of parameters."""

from collections.abc import Sequence

from maskdsl.base.diagnostics import Note
from maskdsl.base.errors.language.parameters import MissingArgument, RepeatedArgument, TooManyArguments, UnknownArgument
from maskdsl.base.errors.language.types import UnknownType
from maskdsl.bind.context.frame import Frame
from maskdsl.syntax import tree

TYPES = ("int", "float", "bool", "axis", "tuple", "axes", "input")


def match_arguments(
    frame: Frame,
    call: tree.Call,
    names: Sequence[str],
    optional: frozenset[str] = frozenset(),
    note: Note | None = None,
) -> dict[str, tree.Expression] | None:
    """The arguments by parameter name; None, with a report, if any is wrong."""
    function, notes = call.function.id, () if note is None else (note,)
    given: dict[str, tree.Expression] = {}
    wrong = False
    positional = [argument for argument in call.arguments if argument.name is None]
    if len(positional) > len(names):
        most = f"{len(names)} argument{'s' if len(names) != 1 else ''}"
        span = positional[len(names)].span
        frame.add(TooManyArguments(span=span, function=function, most=most, given=len(positional), notes=notes))
        return None
    given = {name: argument.value for name, argument in zip(names, positional, strict=False)}
    for argument in call.arguments:
        if argument.name is None:
            continue
        name = argument.name.id
        if name not in names:
            nearest, span = frame.nearest(name, names), argument.name.span
            known = "its parameters are " + ", ".join(f"`{each}`" for each in names)
            frame.add(
                UnknownArgument(span=span, function=function, name=name, known=known, nearest=nearest, notes=notes)
            )
            wrong = True
        elif name in given:
            frame.add(RepeatedArgument(span=argument.name.span, name=name))
            wrong = True
        else:
            given[name] = argument.value
    for name in names:
        if name not in given and name not in optional and not wrong:
            frame.add(MissingArgument(span=call.span, function=function, name=name, notes=notes))
            wrong = True
    return None if wrong else given


def parameter_type(frame: Frame, parameter: tree.Parameter) -> str | None:
    """The type of a parameter; None, with a report, if its type does not exist."""
    name = parameter_kind(parameter)
    if name in TYPES:
        return name
    assert parameter.type is not None
    known = "the types are " + ", ".join(f"`{each}`" for each in TYPES)
    nearest = frame.nearest(name, TYPES)
    frame.add(UnknownType(span=parameter.type.span, name=name, known=known, nearest=nearest))
    return None


def parameter_kind(parameter: tree.Parameter) -> str:
    """The type that a parameter declares, or that its default implies."""
    if parameter.type is not None:
        return parameter.type.id
    match parameter.default:
        case tree.Name(id="i"):
            return "axis"
        case tree.Tuple():
            return "tuple"
        case tree.Float() | tree.Unary(operand=tree.Float()):
            return "float"
        case tree.Boolean():
            return "bool"
        case _:
            return "int"

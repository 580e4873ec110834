"""The functions of the language: operators with names, curves, `len` and `same`."""

from collections.abc import Callable

from maskdsl.base.errors.language import routes as route_errors
from maskdsl.base.errors.language.names import NoPairHere
from maskdsl.base.errors.language.parameters import MissingArgument, TooManyArguments, UnknownArgument
from maskdsl.base.errors.language.spaces import NotAxis
from maskdsl.base.errors.language.types import CurveArgument, MixedSides, NotConstant
from maskdsl.bind.context.bound_values import BAD, AxisValue, Bad, Term, TupleValue, Value, constant, why_unknown
from maskdsl.bind.context.call_arguments import match_arguments
from maskdsl.bind.context.frame import PAIRS, Frame
from maskdsl.bind.context.reading import CURVES, axis_name, length, read, read_hidden, unknown_space
from maskdsl.bind.context.terms import operate
from maskdsl.bind.expression.dots import dot
from maskdsl.bind.expression.macros import Elaborate
from maskdsl.ir.declared.sequences import Along, Shuffled
from maskdsl.ir.expressions import Side
from maskdsl.ir.ops import CALLED, OPERATORS, ROUNDINGS, Op, Type
from maskdsl.syntax import tree

_MOST_ARGUMENTS = 64


_SEVERAL = {name: op for name, op in CALLED.items() if OPERATORS[op].variadic or OPERATORS[op].folds}
_FIXED = {name: op for name, op in CALLED.items() if name not in _SEVERAL}


def call_function(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    """The value of a call of one of `FUNCTIONS`."""
    return FUNCTIONS[call.function.id](call, frame, elaborate)


def _fixed(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    op = _FIXED[call.function.id]
    names = OPERATORS[op].parameters
    given = match_arguments(frame, call, names)
    if given is None:
        return BAD
    operands = [elaborate(given[name], frame) for name in names]
    already = {Op.TO_FLOAT: Type.FLOAT, **dict.fromkeys(ROUNDINGS, Type.INT)}.get(op)
    if isinstance(operands[0], Term) and operands[0].type is already:
        return operands[0]
    return operate(frame, op, call.span, *operands)


def _several(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    name = call.function.id
    op = _SEVERAL[name]
    for argument in call.arguments:
        if argument.name is not None:
            known = "it takes values without names"
            return frame.add(
                UnknownArgument(span=argument.name.span, function=name, name=argument.name.id, known=known)
            )
    if len(call.arguments) < OPERATORS[op].count:
        missing = "seed" if name == "random" else "a second number"
        return frame.add(MissingArgument(span=call.span, function=name, name=missing))
    if len(call.arguments) > _MOST_ARGUMENTS:
        most = f"{_MOST_ARGUMENTS} arguments"
        return frame.add(TooManyArguments(span=call.span, function=name, most=most, given=len(call.arguments)))
    operands = [elaborate(argument.value, frame) for argument in call.arguments]
    if OPERATORS[op].variadic:
        return operate(frame, op, call.span, *operands)
    result = operands[0]
    for operand in operands[1:]:
        result = operate(frame, op, call.span, result, operand)
    return result


def _clamp(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    given = match_arguments(frame, call, ("x", "low", "high"))
    if given is None:
        return BAD
    x, low, high = (elaborate(given[name], frame) for name in ("x", "low", "high"))
    return operate(frame, Op.MINIMUM, call.span, operate(frame, Op.MAXIMUM, call.span, x, low), high)


def _same(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    if frame.statement not in PAIRS:
        return frame.add(NoPairHere(span=call.span, hint="`same` compares a query and a key"))
    if not call.arguments:
        return frame.add(MissingArgument(span=call.span, function="same", name="a coordinate"))
    relations: list[Value] = []
    for argument in call.arguments:
        name = axis_name(frame, argument.value)
        if isinstance(name, Bad):
            relations.append(BAD)
            continue
        q, k = (read(frame, side, name, argument.span) for side in (Side.QUERY, Side.KEY))
        relations.append(operate(frame, Op.EQUAL, argument.span, q, k))
    return operate(frame, Op.AND, call.span, *relations)


def _length(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    given = match_arguments(frame, call, ("axis",))
    if given is None:
        return BAD
    sides = frame.sides
    match given["axis"]:
        case tree.Name(id=name, span=span):
            value = frame.names.get(name)
            if isinstance(value, TupleValue) and not frame.bare_coordinates:
                return constant(len(value.items), span)
            if isinstance(value, AxisValue):
                name = value.name
            space = None
        case tree.Attribute(base=tree.Name(id="q" | "k" as base), name=tree.Name(id=name), span=span):
            sides, space = (Side.QUERY if base == "q" else Side.KEY,), None
            value = frame.names.get(name)
            name = value.name if isinstance(value, AxisValue) else name
        case tree.Attribute(base=tree.Name(id=space), name=tree.Name(id=name), span=span):
            pass
        case other:
            return frame.add(NotAxis(span=other.span))
    if not sides:
        return frame.add(NoPairHere(span=call.span, hint="no space is declared yet"))
    if name in frame.declared.bad_names or space in frame.declared.bad_names:
        return BAD
    if space is not None:
        known = [each.name for each in frame.declared.spaces()]
        if space not in known:
            return unknown_space(frame, space, span, known)
        everywhere = frame.where((a, b) for a in known for b in known)
        return length(everywhere, name, span, sides, space)
    return length(frame, name, span, sides)


def _curve(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    """The position along a curve. Axes are bare names in `coord` and `order`, or all of `q`, or all of `k`."""
    function = call.function.id
    axes = [_axis_of_token(frame, argument.value) for argument in call.arguments]
    hint = "write `hilbert(y, x)`, or `hilbert(q.y, q.x)` in a relation"
    if not axes:
        return frame.add(MissingArgument(span=call.span, function=function, name="an axis"))
    plain = [axis for axis in axes if axis is not None]
    if len(plain) < len(axes):
        at = call.arguments[axes.index(None)].span
        return frame.add(CurveArgument(span=at, function=function, hint=hint))
    sides, names = {side for side, _ in plain}, tuple(name for _, name in plain)
    if len(sides) > 1:
        return frame.add(MixedSides(span=call.span))
    if len(set(names)) < len(names):
        return frame.add(CurveArgument(span=call.span, function=function, hint="name each axis once"))
    side = sides.pop()
    for name in names:
        if isinstance(read(frame, side, name, call.span), Bad):
            return BAD
        if any(space.axis(name) is None for space in frame.spaces(side)):
            return frame.add(CurveArgument(span=call.span, function=function, hint=f"`{name}` is not an axis"))
    return read_hidden(frame, side, Along(CURVES[function], names), call.span)


def _shuffle(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    given = match_arguments(frame, call, ("axis", "seed"))
    if given is None:
        return BAD
    seed = elaborate(given["seed"], frame)
    if isinstance(seed, Bad):
        return BAD
    if not isinstance(seed, Term) or not isinstance(seed.constant, int) or isinstance(seed.constant, bool):
        return frame.add(NotConstant(span=given["seed"].span, what="a seed", reason=why_unknown(seed)))
    axis = _axis_of_token(frame, given["axis"])
    hint = "write `shuffle(y, 7)` or `shuffle(i, 7)`, or `shuffle(q.i, 7)` in a relation"
    if axis is None:
        return frame.add(CurveArgument(span=given["axis"].span, function="shuffle", hint=hint))
    side, name = axis
    if isinstance(read(frame, side, name, call.span), Bad):
        return BAD
    if name != "i" and any(space.axis(name) is None for space in frame.spaces(side)):
        return frame.add(CurveArgument(span=given["axis"].span, function="shuffle", hint=hint))
    return read_hidden(frame, side, Shuffled(name, seed.constant), call.span)


def _axis_of_token(frame: Frame, node: tree.Expression) -> tuple[Side, str] | None:
    """The side and the name of the coordinate that an argument names; None if it is another expression."""
    match node:
        case tree.Name(id="q" | "k" as base) if frame.statement in PAIRS:
            return (Side.QUERY if base == "q" else Side.KEY), "i"
        case tree.Attribute(base=tree.Name(id="q" | "k" as base), name=tree.Name(id=name)) if frame.statement in PAIRS:
            value = frame.names.get(name)
            return (Side.QUERY if base == "q" else Side.KEY), value.name if isinstance(value, AxisValue) else name
        case tree.Name(id=name) if frame.bare_coordinates:
            return Side.TOKEN, name
        case _:
            return None


def _rank(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    """Reports `rank` in an expression: it is allowed as the whole value of a `coord` only, which does not come here."""
    return frame.add(route_errors.RankPlace(span=call.span))


def _softmax(call: tree.Call, frame: Frame, elaborate: Elaborate) -> Value:
    """Reports `softmax` outside of scores of routes: `score_gathers` has it in these."""
    where = "the score of a route"
    return frame.add(route_errors.OutsideRoute(span=call.span, function="softmax", where=where))


FUNCTIONS: dict[str, Callable[[tree.Call, Frame, Elaborate], Value]] = {
    **dict.fromkeys(_FIXED, _fixed),
    **dict.fromkeys(_SEVERAL, _several),
    **dict.fromkeys(CURVES, _curve),
    "clamp": _clamp,
    "dot": dot,
    "rank": _rank,
    "same": _same,
    "len": _length,
    "shuffle": _shuffle,
    "softmax": _softmax,
}

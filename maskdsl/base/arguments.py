"""What public functions and methods check of their arguments before anything else: how many, and of which kinds.

`@takes(head=integer(0), block=BLOCK)` makes each mistake a declared error that says what is expected, and gives the
function what it can count on: integers of NumPy are Python's, a block of one number is a pair. Not for what is called
under `torch.compile`, which looks into no signatures.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from math import isfinite
from operator import index
from os import PathLike
from typing import Any, Literal, TypeVar, cast

import numpy as np

from maskdsl.base.diagnostics import AttnError, Diagnostic, shown
from maskdsl.base.errors.calls.arguments import WrongArgument, WrongCall

BackendName = Literal["auto", "triton", "tiled", "reference"]
LayoutName = Literal["declared", "ordered"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind:
    """What a function makes of an argument. `convert` raises `TypeError` or `ValueError` for what does not fit."""

    expected: str
    convert: Callable[[Any], object]


def takes(**kinds: Kind) -> Callable[[Function], Function]:
    """The decorator of a function whose arguments of these names have these kinds."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        assert kinds.keys() <= signature.parameters.keys()
        name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]

        @wraps(function)
        def checked(*given: object, **named: object) -> object:
            try:
                bound = signature.bind(*given, **named)
            except TypeError as error:
                called = _called(name, signature)
                raise AttnError(WrongCall(name=name, reason=str(error), called=called)) from None
            bound.apply_defaults()
            wrong: list[Diagnostic] = []
            for each, kind in kinds.items():
                if each in bound.arguments:
                    try:
                        bound.arguments[each] = fitting(each, bound.arguments[each], kind)
                    except AttnError as error:
                        wrong += error.diagnostics
            if wrong:
                raise AttnError(*wrong)
            return function(*bound.args, **bound.kwargs)

        return cast(Function, checked)

    return decorate


def _called(name: str, signature: inspect.Signature) -> str:
    """How a function is called, without types."""
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return f"{name}{inspect.Signature(plain)}"


def _fitting(fits: bool, value: Any) -> Any:
    if not fits:
        raise TypeError
    return value


def _integer(value: Any) -> int:
    """As Python has it; a boolean is none."""
    return index(_fitting(isinstance(value, int | np.integer) and not isinstance(value, bool), value))


def integer(low: int = -(2**63), high: int = 2**63 - 1) -> Kind:
    """In these bounds."""

    def convert(value: object) -> int:
        number = _integer(value)
        _fitting(low <= number <= high, value)
        return number

    bounds = "of 64 bits" if low < 0 else f"from {low} to {high}"
    return Kind(f"an integer {bounds}", convert)


def fitting(name: str, value: object, kind: Kind) -> Any:
    """An argument as this kind has it, of a function that `takes` is not for. Raises `AttnError`."""
    try:
        return kind.convert(value)
    except (TypeError, ValueError, OverflowError):
        raise AttnError(WrongArgument(name=name, found=shown(value), expected=kind.expected)) from None


def optional(kind: Kind) -> Kind:
    """None as well."""
    return Kind(f"{kind.expected} or None", lambda value: None if value is None else kind.convert(value))


def _block(value: Any) -> tuple[int, int]:
    sides = value if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else (value, value)
    first, second = (_SIDE.convert(each) for each in list(sides))
    return cast(int, first), cast(int, second)


def _grid(value: Any) -> tuple[int, ...]:
    return tuple(cast(int, _SIDE.convert(each)) for each in _fitting(not isinstance(value, str), value))


def _positive(value: Any) -> float:
    _fitting(isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool), value)
    number = float(value)
    _fitting(isfinite(number) and number > 0, value)
    return number


def _blocks(value: Any) -> list[tuple[int, int]]:
    try:
        return [_block(value)]
    except (TypeError, ValueError):
        found = [_block(each) for each in value]
        _fitting(bool(found), value)
        return found


def _texts(value: Any) -> tuple[str, ...]:
    several = (value,) if isinstance(value, str) else tuple(value)
    _fitting(all(isinstance(each, str) for each in several), value)
    return several


def _path(value: Any) -> object:
    return _fitting(isinstance(value, str | PathLike), value)


def _paths(value: Any) -> tuple[object, ...]:
    _fitting(not isinstance(value, str | bytes), value)
    return tuple(_path(each) for each in value)


_SIDE = integer(1, 2**31 - 1)
COUNT = integer(1, 2**31 - 1)
PLACE = integer(0, 2**31 - 1)
MOST_ENTRIES = 2**20
"""Of a batch."""
WIDEST = 2**16
"""Head dimension."""
BATCH = integer(1, MOST_ENTRIES)
HEAD_DIM = integer(1, WIDEST)
POSITIVE = Kind("a finite number above 0", _positive)
TEXT = Kind("a string", lambda value: _fitting(isinstance(value, str), value))
TEXTS = Kind("a string or several", _texts)
FLAG = Kind("True or False", lambda value: bool(_fitting(isinstance(value, bool | np.bool_), value)))
BLOCK = Kind("the tokens of a tile, an integer or two (queries, keys)", _block)
BLOCKS = Kind("the tokens of a tile, an integer or two (queries, keys), or several of these", _blocks)
GRID = Kind("the lengths of the axes of a grid", _grid)
PATH = Kind("a path", _path)
PATHS = Kind("a list of paths", _paths)
HEADS = {
    "heads": integer(),
    "key_heads": optional(integer()),
    "first_head": integer(),
    "local_heads": optional(integer()),
}
"""How many heads there are, which `bind` looks at."""

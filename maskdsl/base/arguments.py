"""Checks the arguments of public functions and methods, before anything else is done: their number and their kinds.

`@takes(head=integer(0), block=BLOCK)` turns each mistake into a declared error that says what is expected. It also
normalizes arguments: NumPy integers become Python's, and one number for a block becomes a pair. Do not use it on
functions called under `torch.compile`, which cannot trace `inspect.signature`.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from math import isfinite
from operator import index
from os import PathLike
from typing import Any, Literal, TypeVar, cast, get_args

import numpy as np

from maskdsl.base.diagnostics import AttnError, Diagnostic, shown
from maskdsl.base.errors.calls.arguments import WrongArgument, WrongCall
from maskdsl.base.limits import MOST_ENTRIES, MOST_HEAD_DIM
from maskdsl.base.records import dataclass

BackendName = Literal["auto", "triton", "native", "tiled", "reference"]
LayoutName = Literal["declared", "ordered"]
TensorLayout = Literal["bhnd", "bnhd"]
"""Whether heads or tokens come first in q, k and v: [batch, heads, tokens, dim] or [batch, tokens, heads, dim]."""
EngineName = Literal["flex", "cudnn", "flashmask", "magi", "flashinfer", "sdpa"]
"""FlexAttention, cuDNN frontend's Flex Attention, FlashMask, MagiAttention, FlashInfer, and torch's SDPA."""
DtypeName = Literal["float16", "bfloat16", "float32", "float64"]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind:
    """A kind of argument. `convert` normalizes a value, or raises `TypeError` or `ValueError` otherwise."""

    expected: str
    convert: Callable[[Any], object]


def takes(**kinds: Kind) -> Callable[[Function], Function]:
    """Decorates a function: checks and converts the arguments of these names. Raises `AttnError` (E460, E461)."""

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
    """The signature of a function, without types."""
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in parameters]
    return f"{name}{inspect.Signature(plain)}"


def _fitting(fits: bool, value: Any) -> Any:
    if not fits:
        raise TypeError
    return value


def _integer(value: Any) -> int:
    """A Python integer; booleans do not count as integers."""
    return index(_fitting(isinstance(value, int | np.integer) and not isinstance(value, bool), value))


def integer(low: int = -(2**63), high: int = 2**63 - 1) -> Kind:
    """An integer from `low` to `high`, both included."""

    def convert(value: object) -> int:
        number = _integer(value)
        _fitting(low <= number <= high, value)
        return number

    bounds = "of 64 bits" if low < 0 else f"from {low} to {high}"
    return Kind(f"an integer {bounds}", convert)


def fitting(name: str, value: object, kind: Kind) -> Any:
    """The value converted to this kind, for functions that cannot use `takes`. Raises `AttnError` (E460)."""
    try:
        return kind.convert(value)
    except (TypeError, ValueError, OverflowError):
        raise AttnError(WrongArgument(name=name, found=shown(value), expected=kind.expected)) from None


def optional(kind: Kind) -> Kind:
    """This kind, or None."""
    return Kind(f"{kind.expected} or None", lambda value: None if value is None else kind.convert(value))


def instance(expected: str, kind: Any) -> Kind:
    """Instances of a class, as they are."""
    return Kind(expected, lambda value: _fitting(isinstance(value, kind), value))


def _block(value: Any) -> tuple[int, int]:
    sides = value if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) else (value, value)
    first, second = (_SIDE.convert(each) for each in list(sides))
    return cast(int, first), cast(int, second)


def _grid(value: Any) -> tuple[int, ...]:
    return tuple(cast(int, _SIDE.convert(each)) for each in _fitting(not isinstance(value, str), value))


def _chance(value: Any) -> float:
    return float(_fitting(isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1, value))


def _positive(value: Any) -> float:
    _fitting(isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool), value)
    number = float(value)
    _fitting(isfinite(number) and number > 0, value)
    return number


def _link(value: Any) -> tuple[float, float]:
    between, inside = (_positive(each) for each in _fitting(not isinstance(value, str), value))
    return between, inside


def _blocks(value: Any) -> list[tuple[int, int]]:
    try:
        return [_block(value)]
    except (TypeError, ValueError):
        blocks = [_block(each) for each in value]
        _fitting(bool(blocks), value)
        return blocks


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
INDEX = integer(0, 2**31 - 1)
BATCH = integer(1, MOST_ENTRIES)
RANKS = integer(1, 1 << 16)
HEAD_DIM = integer(1, MOST_HEAD_DIM)
CHANCE = Kind("a number from 0, below 1", _chance)
POSITIVE = Kind("a finite number above 0", _positive)
TEXT = Kind("a string", lambda value: _fitting(isinstance(value, str), value))
TENSORS = Kind('"bhnd" or "bnhd"', lambda value: _fitting(value in get_args(TensorLayout), value))
ENGINE = Kind(
    "an engine: " + ", ".join(get_args(EngineName)), lambda value: _fitting(value in get_args(EngineName), value)
)
TEXTS = Kind("one string or several", _texts)
FLAG = Kind("True or False", lambda value: bool(_fitting(isinstance(value, bool | np.bool_), value)))
BLOCK = Kind("the size of a tile in tokens: one integer, or two (queries, keys)", _block)
BLOCKS = Kind("the size of a tile in tokens, one integer or two (queries, keys), or several such sizes", _blocks)
LINK = Kind("two finite numbers above 0: gigabytes a second between nodes, and inside one", _link)
DTYPE = Kind(
    "a type of numbers: " + ", ".join(get_args(DtypeName)),
    lambda value: _fitting(value in get_args(DtypeName), value),
)
GRID = Kind("the axis lengths of a grid", _grid)
PATH = Kind("a path", _path)
PATHS = Kind("a list of paths", _paths)
HEADS = {
    "heads": integer(),
    "key_heads": optional(integer()),
    "first_head": integer(),
    "local_heads": optional(integer()),
}
"""The arguments that say which heads there are; `bind` checks their values."""

"""Dataclasses whose methods are shared, where the standard library generates and compiles them for every class.

That takes it about half a millisecond a class, and every start of the command line defines some two hundred. What is
declared, and what `fields`, `replace`, `asdict` and type checkers know, is the same. There are no slots and no order.
"""

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from dataclasses import dataclass as _standard
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

_set = object.__setattr__

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, repr=True, kw_only=False):
        """Makes a class a dataclass, as `dataclasses.dataclass` does."""
        if cls is None:
            return lambda decorated: dataclass(decorated, frozen=frozen, eq=eq, repr=repr, kw_only=kw_only)
        if cls.__doc__ is None:
            cls.__doc__ = cls.__name__  # otherwise the standard library writes the signature, which takes long
        _standard(cls, init=False, repr=False, eq=False, kw_only=kw_only)
        cls._layout_ = _layout(cls)
        methods = {"__init__": _init}
        if repr:
            methods["__repr__"] = _repr
        if eq:
            methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
        if frozen:
            methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
        declared = dict(vars(cls))
        if "__eq__" in declared and declared["__hash__"] is None:  # Python's, for a class that declares equality alone
            del declared["__hash__"]
        for name in methods.keys() - declared.keys():
            setattr(cls, name, methods[name])
        return cls


class _Layout(NamedTuple):
    """What the shared methods know of a class."""

    positional: int
    """How many fields may be given by their position."""
    given: tuple[str, ...]
    """These, in order, and behind them those that are given by name only."""
    stored: tuple[str, ...]
    """These, and behind them the fields with a factory that nobody gives."""
    defaults: dict[str, Any]
    factories: dict[str, Any]
    rest: dict[int, tuple[Any, ...]]
    """The values of the fields that are not given, where so many are: for counts at which all these have defaults."""
    compared: Callable[[object], tuple[Any, ...]]
    """From an instance to what equal ones have in common."""
    shown: tuple[str, ...]
    is_completed: bool
    """Whether the class has a `__post_init__`."""


def _layout(cls: Any) -> _Layout:
    every = fields(cls)
    positional = [each.name for each in every if each.init and not each.kw_only]
    given = (*positional, *(each.name for each in every if each.init and each.kw_only))
    stored = (*given, *(each.name for each in every if not each.init and each.default_factory is not MISSING))
    defaults = {each.name: each.default for each in every if each.default is not MISSING}
    compared = [each.name for each in every if (each.compare if each.hash is None else each.hash)]
    return _Layout(
        len(positional),
        given,
        stored,
        defaults,
        {each.name: each.default_factory for each in every if each.default_factory is not MISSING},
        {
            count: tuple(defaults[name] for name in stored[count:])
            for count in range(len(positional) + 1)
            if defaults.keys() >= {*stored[count:]}
        },
        _getter(compared),
        tuple(each.name for each in every if each.repr),
        hasattr(cls, "__post_init__"),
    )


def _getter(names: list[str]) -> Callable[[object], tuple[Any, ...]]:
    """A function from an object to the values of these attributes."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)


def _init(self: Any, /, *values: Any, **named: Any) -> None:
    layout: _Layout = self._layout_
    rest = None if named else layout.rest.get(len(values))
    values += _rest(type(self).__name__, layout, len(values), named) if rest is None else rest
    for name, value in zip(layout.stored, values, strict=True):
        _set(self, name, value)
    if layout.is_completed:
        self.__post_init__()


def _rest(kind: str, layout: _Layout, count: int, named: dict[str, Any]) -> tuple[Any, ...]:
    """The values of the fields behind the first `count`: those that are named, defaults, and what factories make."""
    if count > layout.positional or not named.keys() <= {*layout.given[count:]}:
        raise TypeError(f"{kind} takes {', '.join(layout.given)}, not {count} and {', '.join(named)}")
    values = []
    for name in layout.stored[count:]:
        if name in named:
            values.append(named[name])
        elif name in layout.defaults:
            values.append(layout.defaults[name])
        elif name in layout.factories:
            values.append(layout.factories[name]())
        else:
            raise TypeError(f"{kind} needs `{name}`")
    return tuple(values)


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    compared = self._layout_.compared
    return compared(self) == compared(other)


def _hash(self: Any) -> int:
    return hash(self._layout_.compared(self))


def _repr(self: Any) -> str:
    values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._layout_.shown)
    return f"{type(self).__qualname__}({values})"


def _refuse(self: Any, name: str, *value: object) -> None:
    raise FrozenInstanceError(f"`{name}` of {type(self).__name__} cannot be changed")

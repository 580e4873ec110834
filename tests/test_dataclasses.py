"""Dataclasses with shared methods do what the standard library's do."""

import dataclasses
import pickle
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, field, fields, is_dataclass, replace
from math import nan
from typing import Any

import pytest

from maskdsl.base import records

Decorator = Callable[..., Any]


def family(dataclass: Decorator) -> dict[str, Any]:
    """The same classes by either decorator."""

    @dataclass(frozen=True, kw_only=True)
    class Node:
        span: int | None = field(default=None, compare=False, repr=False)

    @dataclass(frozen=True)
    class Pair(Node):
        first: int
        second: tuple[Any, ...] = ()

    @dataclass(frozen=True)
    class Single(Node):
        value: Any

    @dataclass(frozen=True)
    class Sum(Pair):
        total: int = field(init=False, compare=False)
        known: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.first + len(self.second))

    @dataclass(frozen=True)
    class Same:
        text: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Same) and self.text.lower() == other.text.lower()

    @dataclass(frozen=True, eq=False)
    class Thing:
        name: str

    @dataclass
    class Count:
        number: int = 0
        seen: list[int] = field(default_factory=list)

    return {each.__name__: each for each in (Node, Pair, Single, Sum, Same, Thing, Count)}


OURS, THEIRS = family(records.dataclass), family(dataclasses.dataclass)
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("Node", (), {}),
    ("Node", (), {"span": 3}),
    ("Node", (3,), {}),
    ("Pair", (1,), {}),
    ("Pair", (1, (2, 3)), {"span": 4}),
    ("Pair", (), {"second": (1,), "first": 2}),
    ("Pair", (), {}),
    ("Pair", (1, (), 3), {}),
    ("Pair", (1,), {"first": 1}),
    ("Pair", (1,), {"third": 1}),
    ("Single", (nan,), {}),
    ("Sum", (1, (2, 3)), {}),
    ("Sum", (1,), {"total": 3}),
    ("Same", ("A",), {}),
    ("Thing", ("a",), {}),
    ("Count", (), {}),
    ("Count", (1, [2]), {}),
]


def made(classes: dict[str, Any], name: str, values: Any, named: Any) -> Any:
    try:
        return classes[name](*values, **named)
    except TypeError:
        return TypeError


@pytest.mark.parametrize(("name", "values", "named"), CALLS)
def test_instances(name: str, values: Any, named: Any) -> None:
    ours, theirs = (made(classes, name, values, named) for classes in (OURS, THEIRS))
    if theirs is TypeError:
        assert ours is TypeError
        return
    assert repr(ours) == repr(theirs) and vars(ours) == vars(theirs) and is_dataclass(ours)
    assert asdict(ours) == asdict(theirs) or nan in values
    assert [each.name for each in fields(ours)] == [each.name for each in fields(theirs)]
    assert type(ours).__match_args__ == type(theirs).__match_args__
    again = made(OURS, name, values, named)
    assert (ours == again) == (theirs == made(THEIRS, name, values, named)) and ours != theirs
    assert (type(ours).__hash__ is None) == (type(theirs).__hash__ is None)
    if ours == again and type(ours).__hash__ is not None:
        assert hash(ours) == hash(again)


@pytest.mark.parametrize("classes", [OURS, THEIRS], ids=["ours", "theirs"])
def test_what_instances_do(classes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pair = classes["Pair"](1, (2,), span=3)
    assert replace(pair, first=5) == classes["Pair"](5, (2,)) and replace(pair, first=5).span == 3
    assert pair != classes["Pair"](1, (3,)) and pair != (1, (2,))
    assert classes["Sum"](1, (2,)) != pair and classes["Sum"](1, (2,)).total == 2
    for change in (lambda: setattr(pair, "first", 2), lambda: delattr(pair, "first"), lambda: setattr(pair, "new", 2)):
        with pytest.raises(FrozenInstanceError):
            change()
    assert classes["Same"]("A") == classes["Same"]("a") and classes["Count"](1) == classes["Count"](1)
    count = classes["Count"]()
    count.number = 7
    assert count.number == 7 and count.seen is not classes["Count"]().seen
    number = float("nan")
    assert classes["Single"](number) == classes["Single"](number) != classes["Single"](float("nan"))
    monkeypatch.setattr(sys.modules[__name__], "Pair", classes["Pair"], raising=False)
    classes["Pair"].__qualname__ = "Pair"  # where pickle finds it
    assert pickle.loads(pickle.dumps(pair)) == pair


def test_nothing_is_generated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compiling methods is what takes long."""
    monkeypatch.setattr(dataclasses, "exec", lambda *_: pytest.fail("a method is compiled"), raising=False)
    assert family(records.dataclass)
    with pytest.raises(pytest.fail.Exception):
        family(dataclasses.dataclass)

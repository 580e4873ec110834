"""Spaces, tokens, and what names mean where an expression stands."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from tests.independent.reader import Node


@dataclass(frozen=True)
class Space:
    name: str
    axes: tuple[tuple[str, int], ...]
    source: "Space | None" = None
    box: tuple[int, ...] = ()
    """Empty where tokens are pooled by a coordinate."""
    pooling: str = ""
    by: str = ""

    @property
    def size(self) -> int:
        return math.prod(length for _, length in self.axes)

    def cells(self) -> Iterator[dict[str, int]]:
        names = [name for name, _ in self.axes]
        for position in product(*(range(length) for _, length in self.axes)):
            yield dict(zip(names, position, strict=True))

    @property
    def root(self) -> "Space":
        return self if self.source is None else self.source.root


@dataclass(frozen=True)
class Token:
    side: str
    i: int
    space: Space
    number: int
    """In its space, row-major."""
    cell: Mapping[str, int]


@dataclass(frozen=True)
class AxisName:
    """What a parameter of type `axis` stands for."""

    name: str


@dataclass(frozen=True)
class InputName:
    """What a parameter of type `input` stands for."""

    name: str


@dataclass(frozen=True)
class AxisNames:
    names: tuple[str, ...] | None
    """None: every axis of the space at hand."""


@dataclass(frozen=True)
class Later:
    """An argument or a `let`: an expression, and what its names mean."""

    node: Node
    scope: "Scope"


@dataclass(frozen=True)
class Scope:
    """What names mean where an expression stands."""

    names: Mapping[str, Any]
    token: Token | None = None
    """The one token of `coord` and `order`, whose coordinates are bare names."""
    bare: bool = False
    q: Token | None = None
    k: Token | None = None
    s: object | None = None

    def with_names(self, names: Mapping[str, Any]) -> "Scope":
        return Scope(names, self.token, False, self.q, self.k, self.s)

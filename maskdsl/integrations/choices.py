"""Which pattern a layer has, and the compiled attention for its heads. Shared by the integrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isclose
from typing import Any

from torch import Tensor

from maskdsl.api import Mask, Pattern
from maskdsl.diagnostics import AttnError
from maskdsl.errors import libraries as errors
from maskdsl.ir.heads import Heads
from maskdsl.runtime.attention import BaseAttention

OneChoice = Pattern | Mask | BaseAttention
Choice = OneChoice | Mapping[str | int, OneChoice] | Callable[[int | None, str | None], OneChoice]
"""A pattern, or one for each type or number of layer, or a function of both that gives one."""


@dataclass(frozen=True, eq=False)
class Choices:
    """What is registered under a name."""

    name: str
    choice: Choice
    parameters: Mapping[str, Any]
    """Values of the parameters of patterns; of several patterns each takes those that it has."""
    follow: str | tuple[str, ...] = "n"
    """The parameters of patterns that are lengths."""
    backend: str = "auto"
    compiled: dict[tuple[int | None, str | None, Heads], BaseAttention] = field(default_factory=dict, repr=False)
    """By number and type of layer, and number of heads."""

    def check(self) -> None:
        """Raises for what can be seen before there is a model."""
        if isinstance(self.choice, Mapping):
            chosen = [*self.choice.values()]
            if not chosen:
                raise AttnError(errors.NotAPattern(found="mapping without any"))
        else:
            chosen = [] if callable(self.choice) and not isinstance(self.choice, OneChoice) else [self.choice]
        for each in chosen:
            self.compile(each, Heads(1))
        if chosen and self.parameters and not any(isinstance(each, Pattern) for each in chosen):
            names = ", ".join(f"`{name}`" for name in self.parameters)
            raise AttnError(errors.AlreadyBound(names=names))

    def of(self, layer: int | None, kind: str | None) -> OneChoice:
        """What was chosen for a layer of this number and type. A number goes before a type."""
        if isinstance(self.choice, Mapping):
            for key in (layer, kind):
                if key is not None and key in self.choice:
                    return self.choice[key]
            known = ", ".join(f"`{key}`" for key in self.choice)
            raise AttnError(errors.NoPatternForLayer(name=self.name, layer=layer, kind=kind, known=known))
        return self.choice if isinstance(self.choice, OneChoice) else self.choice(layer, kind)

    def attention(self, layer: int | None, kind: str | None, heads: Heads) -> BaseAttention:
        key = layer, kind, heads
        if key not in self.compiled:
            self.compiled[key] = self.compile(self.of(layer, kind), heads)
        return self.compiled[key]

    def compile(self, chosen: OneChoice, heads: Heads) -> BaseAttention:
        match chosen:
            case Pattern():
                return chosen.compile(
                    self.backend,
                    heads=heads.whole,
                    key_heads=heads.key_heads,
                    first_head=heads.first,
                    local_heads=heads.local,
                    follow=self.follow,
                    **self.own(chosen),
                )
            case Mask():
                return chosen.compile(self.backend)
            case BaseAttention():
                return chosen
            case _:
                raise AttnError(errors.NotAPattern(found=type(chosen).__name__))

    def own(self, pattern: Pattern) -> dict[str, Any]:
        """The values for a pattern: of its parameters, and those that no pattern has, which it refuses."""
        others = self.choice.values() if isinstance(self.choice, Mapping) else ()
        known = {name for each in others if isinstance(each, Pattern) for name in each.parameters}
        names = {*pattern.parameters, *(self.parameters.keys() - known)}
        return {name: value for name, value in self.parameters.items() if name in names}


def rescaled(query: Tensor, scale: float) -> Tensor:
    """Queries whose products, over the square root of the head dim, are those of the scale that a model asks for."""
    factor = scale * query.shape[3] ** 0.5
    return query if isclose(factor, 1) else query * factor

"""Which pattern a layer has, and the compiled attention for its heads. Shared by the integrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, signature
from math import isclose
from typing import Any, Literal

from torch import Tensor

from maskdsl import Attention, AttnError, BackendName, FollowingAttention, Heads, Mask, Pattern
from maskdsl.base.errors.calls import libraries as errors

Role = Literal["self", "encoder", "cross"]
_MASKS = ("refuse", "pattern")


@dataclass(frozen=True)
class Layer:
    """An attention of a model, as choosers are told of it."""

    number: int | None
    kind: str | None
    """The type that the model's configuration gives it, or its name."""
    role: Role = "self"
    """"self" of a decoder, "encoder" of tokens that see each other both ways, or "cross" to another sequence."""


Compiled = Attention | FollowingAttention
OneChoice = Pattern | Mask | Compiled
Choice = OneChoice | Mapping[str | int, OneChoice | None] | Callable[..., OneChoice | None]
"""A pattern, or one for each number, type or role of layer, or a function of a `Layer` (or of its number and type) that
gives one. None leaves the layer to the model."""


@dataclass(frozen=True, eq=False)
class LayerPatterns:
    """What is registered under a name."""

    name: str
    choice: Choice
    parameters: Mapping[str, Any]
    """Values of the parameters of patterns; of several patterns each takes those that it has."""
    follow: str | tuple[str, ...] = "n"
    """The parameters of patterns that are lengths."""
    backend: BackendName = "auto"
    masks: str = "refuse"
    """What becomes of a mask of the model's own: refused, or "pattern", which says that the pattern says it all."""
    _compiled: dict[tuple[Layer, Heads], Compiled | None] = field(default_factory=dict, repr=False, init=False)
    """By layer and number of heads."""

    def check(self) -> None:
        """Raises for what can be seen before there is a model."""
        if self.masks not in _MASKS:
            raise AttnError(errors.UnknownMasks(found=repr(self.masks)))
        if isinstance(self.choice, Mapping):
            chosen = [each for each in self.choice.values() if each is not None]
            if not chosen:
                raise AttnError(errors.NotAPattern(found="mapping without any"))
        else:
            chosen = [] if callable(self.choice) and not isinstance(self.choice, OneChoice) else [self.choice]
        for each in chosen:
            self.compile(each, Heads(1))
        if chosen and self.parameters and not any(isinstance(each, Pattern) for each in chosen):
            names = ", ".join(f"`{name}`" for name in self.parameters)
            raise AttnError(errors.AlreadyBound(names=names))

    @property
    def tells_roles(self) -> bool:
        """Whether it may choose otherwise for an encoder than for a decoder."""
        if isinstance(self.choice, Mapping):
            return "encoder" in self.choice
        return not isinstance(self.choice, OneChoice) and _takes_layer(self.choice)

    def of(self, layer: Layer) -> OneChoice | None:
        """What was chosen for a layer: a number goes before a type, and a type before a role.

        None leaves it to the model, as attention to another sequence is unless it is spoken of.
        """
        if isinstance(self.choice, Mapping):
            return self._entry(self.choice, layer)
        if isinstance(self.choice, OneChoice):
            return None if layer.role == "cross" else self.choice
        if _takes_layer(self.choice):
            return self.choice(layer)
        return None if layer.role == "cross" else self.choice(layer.number, layer.kind)

    def _entry(self, choice: Mapping[str | int, OneChoice | None], layer: Layer) -> OneChoice | None:
        keys: tuple[str | int | None, ...]
        match layer.role:
            case "cross":
                return choice.get("cross")
            case "encoder":
                keys = "encoder", layer.number, layer.kind
            case "self":
                keys = layer.number, layer.kind, "self"
        for key in keys:
            if key is not None and key in choice:
                return choice[key]
        known = ", ".join(f"`{key}`" for key in choice)
        raise AttnError(errors.NoPatternForLayer(name=self.name, layer=layer.number, kind=layer.kind, known=known))

    def leaves(self, layer: Layer) -> bool:
        """Whether a layer, if there is one, is left to the model."""
        try:
            return self.of(layer) is None
        except AttnError:
            return False

    def attention(self, layer: Layer, heads: Heads) -> Compiled | None:
        """What a layer computes, or None where it is left to the model."""
        key = layer, heads
        if key not in self._compiled:
            chosen = self.of(layer)
            self._compiled[key] = None if chosen is None else self.compile(chosen, heads)
        return self._compiled[key]

    def compile(self, chosen: OneChoice, heads: Heads) -> Compiled:
        match chosen:
            case Pattern():
                return chosen.compile(
                    self.backend,
                    heads=heads.whole,
                    key_heads=heads.key_heads,
                    first_head=heads.first,
                    local_heads=heads.local,
                    follow=self.follow,
                    **self._own(chosen),
                )
            case Mask():
                return chosen.compile(self.backend)
            case Attention() | FollowingAttention():
                return chosen
            case _:
                raise AttnError(errors.NotAPattern(found=type(chosen).__name__))

    def _own(self, pattern: Pattern) -> dict[str, Any]:
        """The values for a pattern: of its parameters, and those that no pattern has, which it refuses."""
        others = self.choice.values() if isinstance(self.choice, Mapping) else ()
        known = {name for each in others if isinstance(each, Pattern) for name in each.parameters}
        names = {*pattern.parameters, *(self.parameters.keys() - known)}
        return {name: value for name, value in self.parameters.items() if name in names}


def _takes_layer(choose: Callable[..., object]) -> bool:
    """Whether a function takes one argument, and is given a `Layer`; else it takes a number and a type."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    given = signature(choose).parameters.values()
    return sum(each.kind in kinds and each.default is Parameter.empty for each in given) == 1


def rescaled(query: Tensor, scale: float) -> Tensor:
    """Queries whose products, over the square root of the head dim, are those of the scale that a model asks for."""
    factor = scale * query.shape[3] ** 0.5
    return query if isclose(factor, 1) else query * factor

"""`LayerPatterns`: the pattern of each layer of a model, and its attention for the layer's heads. For integrations."""

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
    """An attention layer of a model, as functions that choose a pattern get it."""

    number: int | None
    """Its index in the model, from 0; None if it has none."""
    kind: str | None
    """Its type in the model's configuration, or its name."""
    role: Role = "self"
    """"self" for causal self-attention, "encoder" for bidirectional, "cross" for attention to another sequence."""


Compiled = Attention | FollowingAttention
OneChoice = Pattern | Mask | Compiled
Choice = OneChoice | Mapping[str | int, OneChoice | None] | Callable[..., OneChoice | None]
"""A pattern for all layers; or a mapping from numbers, types or roles of layers to patterns; or a function that returns
a pattern, of a `Layer`, of its number and type, or of number, type and role. None leaves a layer to the model."""


@dataclass(frozen=True, eq=False)
class LayerPatterns:
    """The patterns of a model's layers, compiled for the layers' heads when they are first asked for."""

    name: str
    """The name in errors."""
    choice: Choice
    parameters: Mapping[str, Any]
    """Values of patterns' parameters; of several patterns each takes those that it has."""
    follow: str | tuple[str, ...] = "n"
    """The parameters of patterns that are the lengths of each call."""
    backend: BackendName = "auto"
    masks: str = "refuse"
    """What to do with a mask of the model: "refuse" it, or "pattern", which vouches that the pattern covers it."""
    length: int | None = None
    """The length that patterns are bound for; None: that of each call."""
    _compiled: dict[tuple[Layer, Heads, float | None, float | None], Compiled | None] = field(
        default_factory=dict, repr=False, init=False
    )
    """The attentions, by layer, heads, soft cap and scale."""

    def check(self) -> None:
        """Raises `AttnError` for everything that is wrong before there is a model."""
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
        """Whether the choice may differ between an encoder and a decoder."""
        if isinstance(self.choice, Mapping):
            return "encoder" in self.choice
        return not isinstance(self.choice, OneChoice) and _count_of_parameters(self.choice) != 2

    def of(self, layer: Layer) -> OneChoice | None:
        """The choice for a layer; None leaves it to the model. Raises `NoPatternForLayer` if a mapping has no entry.

        A mapping's numbers precede its types, and types precede roles. Cross-attention is left to the model unless the
        choice names it.
        """
        if isinstance(self.choice, Mapping):
            return self._entry(self.choice, layer)
        if isinstance(self.choice, OneChoice):
            return None if layer.role == "cross" else self.choice
        match _count_of_parameters(self.choice):
            case 1:
                return self.choice(layer)
            case 3:
                return self.choice(layer.number, layer.kind, layer.role)
            case _:
                return None if layer.role == "cross" else self.choice(layer.number, layer.kind)

    def _entry(self, choice: Mapping[str | int, OneChoice | None], layer: Layer) -> OneChoice | None:
        key = _key_of(choice, layer)
        if key is not None:
            return choice[key]
        if layer.role == "cross":
            return None
        known = ", ".join(f"`{key}`" for key in choice)
        raise AttnError(errors.NoPatternForLayer(name=self.name, layer=layer.number, kind=layer.kind, known=known))

    def leaves(self, layer: Layer) -> bool:
        """Whether a layer would be left to the model; False if there is no such layer."""
        if isinstance(self.choice, Mapping):  # raises nothing: graphs of `torch.compile` cannot
            key = _key_of(self.choice, layer)
            return layer.role == "cross" if key is None else self.choice[key] is None
        return self.of(layer) is None

    def attention(
        self, layer: Layer, heads: Heads, soft_cap: float | None = None, scale: float | None = None
    ) -> Compiled | None:
        """The attention of a layer, cached; None if the layer is left to the model. Raises `AttnError`.

        With a `soft_cap`, that of a model, scores are `soft_cap * tanh(s / soft_cap)`. A pattern with `score` lines of
        its own stays as it is, and so does a pattern that is compiled already. A `scale` of a model becomes that of a
        pattern without one that multiplies queries more than once; for others, `scaled_for` multiplies the queries.
        """
        usual = self._kept(layer, heads, soft_cap, None)
        if scale is None or usual is None or usual.has_scale is not False or not usual.multiplies:
            return usual  # one attention for all scales: some models have another for each length
        return self._kept(layer, heads, soft_cap, scale)

    def _kept(self, layer: Layer, heads: Heads, soft_cap: float | None, scale: float | None) -> Compiled | None:
        """The attention of a layer, with this soft cap and scale if the pattern is not compiled already; cached."""
        key = layer, heads, soft_cap, scale
        if key not in self._compiled:
            chosen = self.of(layer)
            compiled = None if chosen is None else self.compile(chosen, heads)
            if isinstance(chosen, Pattern | Mask):
                assert compiled is not None
                plain = chosen
                if soft_cap is not None and not compiled.changes_scores:
                    chosen = chosen.soft_capped(soft_cap)
                chosen = chosen if scale is None else chosen.scaled(scale)
                compiled = compiled if chosen is plain else self.compile(chosen, heads)
            self._compiled[key] = compiled
        return self._compiled[key]

    @property
    def inputs(self) -> frozenset[str]:
        """The names of the inputs of all attentions so far."""
        return frozenset(name for each in self._compiled.values() if each is not None for name in each.inputs)

    def compile(self, chosen: OneChoice, heads: Heads) -> Compiled:
        """The attention of a pattern for these heads; a mask has its own. Raises `NotAPattern` for anything else."""
        match chosen:
            case Pattern() if self.length is not None:
                return self.bound(chosen, heads).compile(self.backend)
            case Pattern():
                return chosen.compile(
                    self.backend,
                    heads=heads.whole,
                    key_heads=heads.key_heads,
                    first_head=heads.first,
                    local_heads=heads.local,
                    follow=self.follow,
                    **self._parameters_of(chosen),
                )
            case Mask():
                return chosen.compile(self.backend)
            case Attention() | FollowingAttention():
                return chosen.in_layout("bhnd")
            case _:
                raise AttnError(errors.NotAPattern(found=type(chosen).__name__))

    def bound(self, pattern: Pattern, heads: Heads, length: int | None = None) -> Mask:
        """The mask of a pattern for these heads, `length` tokens long if it has a parameter for that."""
        names = (self.follow,) if isinstance(self.follow, str) else self.follow
        length = self.length if length is None else length
        lengths = {name: length for name in names if name in pattern.parameters}
        return pattern.bind(
            heads=heads.whole,
            key_heads=heads.key_heads,
            first_head=heads.first,
            local_heads=heads.local,
            **{**lengths, **self._parameters_of(pattern)},
        )

    def mask(self, layer: Layer, heads: Heads, length: int) -> Mask | None:
        """The mask of a layer for sequences of this length; None if the choice is nothing, or compiled already."""
        match self.of(layer):
            case Pattern() as chosen:
                return self.bound(chosen, heads, length)
            case Mask() as chosen:
                return chosen
            case _:
                return None

    def _parameters_of(self, pattern: Pattern) -> dict[str, Any]:
        """The values of a pattern's parameters, and those that no pattern has, so that compiling raises for them."""
        others = self.choice.values() if isinstance(self.choice, Mapping) else ()
        known = {name for each in others if isinstance(each, Pattern) for name in each.parameters}
        names = {*pattern.parameters, *(self.parameters.keys() - known)}
        return {name: value for name, value in self.parameters.items() if name in names}


def _key_of(choice: Mapping[str | int, OneChoice | None], layer: Layer) -> str | int | None:
    """The first key of a mapping that fits a layer; None if there is none."""
    keys: tuple[str | int | None, ...]
    match layer.role:
        case "cross":
            keys = ("cross",)
        case "encoder":
            keys = "encoder", layer.number, layer.kind
        case "self":
            keys = layer.number, layer.kind, "self"
    for key in keys:
        if key is not None and key in choice:
            return key
    return None


def _count_of_parameters(choose: Callable[..., object]) -> int:
    """How many arguments a function has to be given: a `Layer`; number and type; or number, type and role."""
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    given = signature(choose).parameters.values()
    return sum(each.kind in kinds and each.default is Parameter.empty for each in given)


def asked_scale(query: Tensor, scale: float | None) -> float | None:
    """The scale of a model, for queries [batch, heads, queries, head dim]; None if it is 1 / sqrt(head dim)."""
    return None if scale is None or isclose(scale * query.shape[3] ** 0.5, 1) else scale


def scaled_for(attention: Compiled, query: Tensor, scale: float | None, name: str) -> Tensor:
    """Queries for a model with this scale of scores, which a `scale` line of the pattern replaces.

    Raises `AskedMore` if only some branches have such a line, and for a compiled pattern that multiplies queries more
    than once: only one of its products has a scale.
    """
    if scale is None or attention.has_scale:
        return query
    if attention.has_scale is None:
        cure = "write `scale` in every branch, or in none: then the model's holds in all of them"
        raise AttnError(errors.AskedMore(name=name, argument="scaling", cure=cure))
    if attention.multiplies:
        cure = f"write `scale {scale:g}` in the pattern, or give the pattern itself, not what `compile` gives"
        raise AttnError(errors.AskedMore(name=name, argument="scaling", cure=cure))
    return rescaled(query, scale)


def rescaled(query: Tensor, scale: float) -> Tensor:
    """Queries [batch, heads, queries, head dim] multiplied so that a scale of 1 / sqrt(head dim) becomes `scale`."""
    return query if asked_scale(query, scale) is None else query * (scale * query.shape[3] ** 0.5)

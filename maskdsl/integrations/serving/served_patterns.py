"""The patterns that somebody serves a model with: the layers of an engine, and how long their pages are read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

from torch import Tensor

from maskdsl import Attention, AttnError, FollowingAttention, Heads, Mask, Pattern, parse
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Layer, LayerPatterns
from maskdsl.integrations.serving.kept_routes import KeptRoutes
from maskdsl.integrations.serving.page_lives import PageLives
from maskdsl.integrations.serving.paged_layer import PagedLayer

SLIDING, FULL = "sliding_attention", "full_attention"
"""The kinds of layers, as transformers calls them."""
_MODEL = parse("""
pattern causal(n) { space t[n] attend causal }
pattern window(n, size) { space t[n] attend causal and backward(size) }
""")
"""What layers compute that are left to the model."""


@dataclass(frozen=True, eq=False)
class Registered:
    """What somebody has chosen for all models of this process."""

    patterns: LayerPatterns
    inputs: Mapping[str, Any]
    """Values that are alike for all sequences."""


REGISTERED: dict[str, Registered] = {}
"""By engine."""


@dataclass(frozen=True)
class ServedModel:
    """What an engine knows of a model before it has its layers."""

    length: int
    """Tokens of the longest sequence."""
    kinds: tuple[str, ...]
    """Of each layer."""
    heads: Heads
    """Those of all layers; of all processes."""
    window: int | None = None
    """Of its sliding layers."""


@dataclass(frozen=True, eq=False)
class AskedOfLayer:
    """What a model asks of a layer's attention besides the pairs."""

    scale: float | None = None
    soft_cap: float | None = None
    window: int | None = None
    has_alibi: bool = False
    sinks: Tensor | None = None


@dataclass(frozen=True, eq=False)
class ServedPatterns:
    """The choice of patterns for a model."""

    registered: Registered
    model: ServedModel

    @cached_property
    def patterns(self) -> LayerPatterns:
        """The choice, for the model's length."""
        return replace(self.registered.patterns, length=self.model.length)

    def layer(self, layer: Layer, heads: Heads, asked: AskedOfLayer) -> PagedLayer:
        """A layer of the model, for these heads of this process. Raises `AttnError` for what cannot be served."""
        if layer.role != "self":
            raise AttnError(errors.NotServed(what=f"the attention of layer {layer.number}", reason=_ROLES[layer.role]))
        patterns = self._of(layer, asked.window)
        attention = patterns.attention(layer, heads, asked.soft_cap, asked.scale)
        assert attention is not None
        served = attention.at(self.model.length)
        self._check(served, asked)
        routes = KeptRoutes(served) if served.mask.routed else None
        return PagedLayer(patterns.name, served, heads, asked.scale, asked.sinks, self.registered.inputs, routes)

    def lives(self, numbers: Mapping[int, str], size: int) -> PageLives | None:
        """How long pages of `size` tokens are read that some layers share; None if content or inputs decide that.

        `numbers` are those layers, with their kinds.
        """
        masks = dict[int, Mask]()
        for number, kind in numbers.items():
            layer = Layer(number, kind)
            patterns = self._of(layer, self.model.window if kind == SLIDING else None)
            match patterns.of(layer):
                case Pattern() as chosen if id(chosen) not in masks:
                    masks[id(chosen)] = patterns.bound(chosen, self.model.heads)
                case Mask() as chosen:
                    masks[id(chosen)] = chosen
                case Attention() | FollowingAttention():
                    return None
        try:
            return PageLives.of(masks.values(), self.model.length, size, self.registered.inputs) if masks else None
        except AttnError:  # of routes, and of inputs that nobody has given
            return None

    def _of(self, layer: Layer, window: int | None) -> LayerPatterns:
        """The choice for a layer, or what the model computes without one."""
        return _by_model(self.model.length, window) if self.patterns.leaves(layer) else self.patterns

    def _check(self, attention: Attention, asked: AskedOfLayer) -> None:
        """Raises for patterns that are not of a cache's tokens or are too short, and for ALiBi that they do not say."""
        what = f"`{attention.name}`"
        if attention.mask.keys.is_pooled:
            raise AttnError(errors.NotServed(what=what, reason=_POOLED, span=attention.span))
        if not attention.self_attention:
            raise AttnError(errors.NotServed(what=what, reason=_DIFFERENT, span=attention.span))
        if attention.query_length < self.model.length:
            tokens, needed, span = attention.query_length, self.model.length, attention.span
            raise AttnError(errors.ShortPattern(pattern=attention.name, found=tokens, needed=needed, span=span))
        if asked.has_alibi and not attention.changes_scores:
            raise AttnError(errors.AskedMore(name=self.patterns.name, argument="alibi_slopes", cure=_ALIBI))


_ROLES = {
    "cross": "it attends to another sequence, and a pattern is of one",
    "encoder": "it attends to tokens that follow, whose keys are not in the cache yet",
}
_DIFFERENT = "its queries and keys are different tokens, and a cache holds the keys of the queries' sequence"
_POOLED = "it pools keys, and a cache has a key for each token"
_ALIBI = "add `score s - slope[head] * abs(q - k)` to the pattern, and give the slopes as an input"


@cache
def _by_model(length: int, window: int | None) -> LayerPatterns:
    if window is None:
        return LayerPatterns("the model", _MODEL["causal"], {}, length=length)
    return LayerPatterns("the model", _MODEL["window"], {"size": window}, length=length)

"""Patterns in the transformers of diffusers: a processor around the model's own.

The model's processor projects, normalises and turns queries and keys as before; only where it asks torch for
`scaled_dot_product_attention`, a pattern answers. So it serves the joint attention of text and image and that of video
alike, and whatever a model does around it. Tokens are in the order of the model: Flux and CogVideoX have the text in
front of the image, Stable Diffusion 3 behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.overrides import TorchFunctionMode

from maskdsl import AttnError, BackendName, Heads
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Choice, Layer, LayerPatterns, rescaled
from maskdsl.integrations.padding import present_keys
from maskdsl.integrations.positions import as_pages

try:
    import diffusers  # noqa: F401  # it is what models come from
except ImportError as error:
    raise AttnError(errors.MissingLibrary(module=__name__, library="diffusers", reason=str(error))) from error

__all__ = ["attentions", "restore", "use"]


def use(
    model: nn.Module,
    pattern: Choice,
    *,
    inputs: Mapping[str, Any] | None = None,
    follow: str | tuple[str, ...] = "n",
    backend: BackendName = "auto",
    masks: str = "refuse",
    **parameters: Any,
) -> None:
    """Makes the self-attention of all layers of a model compute a pattern; attention to another sequence stays.

    `pattern` is a `Mask`, bound for the tokens of the model, or a `Pattern`, bound for the lengths of each call, which
    `follow` names, with these `parameters`; or a mapping by number or name, as `attentions` gives them, or a function
    `(number, name)`; None leaves a layer as it is. `inputs` are the pattern's. What was used before is replaced.

    A mask of the model's that hides the same keys for all queries, such as padding of a text, says which keys are not
    there; they keep their places. Other masks are refused, unless you vouch by `masks="pattern"` that the pattern says
    all that they say. Raises `AttnError`.
    """
    patterns = LayerPatterns(type(model).__name__, pattern, parameters, follow, backend, masks)
    patterns.check()
    found = attentions(model)
    if not found:
        raise AttnError(errors.NoAttention(model=type(model).__name__))
    chosen = [patterns.of(Layer(number, name)) for number, name in enumerate(found)]
    restore(model)
    for number, (name, module) in enumerate(found.items()):
        if chosen[number] is not None:
            _put(module, _around(module.processor, patterns, number, name, dict(inputs or {})))


def restore(model: nn.Module) -> None:
    """Gives a model the processors back that it had before `use`."""
    for module in attentions(model).values():
        if isinstance(module.processor, _PatternProcessor):
            _put(module, module.processor.processor)


def _put(module: Any, processor: Any) -> None:
    """Not every attention has the method for it."""
    if hasattr(module, "set_processor"):
        module.set_processor(processor)
    else:
        module.processor = processor


def attentions(model: nn.Module) -> dict[str, Any]:
    """The attention modules by name, but for those that say that they attend another sequence than their own."""
    return {
        name: module
        for name, module in model.named_modules()
        if _is_attention(module) and not getattr(module, "is_cross_attention", False)
    }


def _is_attention(module: Any) -> bool:
    """Whether it has a processor for its attention; some have it as an attribute alone."""
    processor = getattr(module, "processor", None)
    if processor is None or hasattr(module, "set_processor"):
        return processor is not None
    return isinstance(processor, _PatternProcessor) or "AttnProcessor" in type(processor).__name__


class _PatternProcessor:
    """Calls a processor of diffusers, with a pattern for its attention."""

    def __init__(self, processor: Any, patterns: LayerPatterns, number: int, name: str, inputs: dict[str, Any]) -> None:
        self.processor = processor
        self.patterns = patterns
        self.number = number
        self.name = name
        self.inputs = inputs
        self.arguments = tuple(signature(processor.__call__).parameters)
        """The names of what it is called with."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _around, (self.processor, self.patterns, self.number, self.name, self.inputs)

    def call(self, *arguments: Any, **named: Any) -> Any:
        """What the processor gives, called with the same."""
        given = dict(zip(self.arguments, arguments, strict=False)) | named
        asked: list[str] = []
        with _Answered(self, asked, given.get("hidden_states"), given.get("encoder_hidden_states")):
            result = self.processor(*arguments, **named)
        if not asked:
            raise AttnError(errors.NoSelfAttention(name=self.name, processor=type(self.processor).__name__))
        return result

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """In place of `scaled_dot_product_attention`, over [batch, heads, tokens, dim]."""
        if is_causal and self.patterns.masks != "pattern":
            raise AttnError(errors.ForeignMask(name=self.patterns.name, what="causal attention"))
        if dropout_p:
            cure = "set the attention dropout of the model to 0"
            raise AttnError(errors.AskedMore(name=self.patterns.name, argument="dropout_p", cure=cure))
        attention = self.patterns.attention(Layer(self.number, self.name), Heads(query.shape[1]))
        assert attention is not None
        if scale is not None:
            query = rescaled(query, scale)
        where: dict[str, Any] = {}
        if attn_mask is not None:
            batch, keys, vouched = key.shape[0], key.shape[2], self.patterns.masks == "pattern"
            present = present_keys(self.patterns.name, attn_mask, batch, keys, vouched)
            if is_compiling() or not bool(present.all()):  # keys that are not there keep their places
                index = torch.arange(batch * keys, device=key.device).view(batch, keys)
                where = {"query_start": 0, "page_table": torch.where(present, index, -1)}
                key, value = as_pages(key), as_pages(value)
        out: Tensor = attention(query, key, value, **where, **self.inputs)
        return out


def _around(
    processor: Any, patterns: LayerPatterns, number: int, name: str, inputs: dict[str, Any]
) -> _PatternProcessor:
    """A processor that is called like this one."""
    return _called_like(processor.__class__)(processor, patterns, number, name, inputs)


@cache
def _called_like(kind: Any) -> type[_PatternProcessor]:
    """Processors with the signature of a kind: models give them only what it names."""

    def call(self: _PatternProcessor, *arguments: Any, **named: Any) -> Any:
        return self.call(*arguments, **named)

    call.__signature__ = signature(kind.__call__)  # type: ignore[attr-defined]
    return type("PatternProcessor", (_PatternProcessor,), {"__call__": call})


class _Answered(TorchFunctionMode):
    """Has a processor answer calls of `scaled_dot_product_attention` among the same tokens; notes all calls.

    `own` and `others` are the tokens that the model gives an attention, [batch, tokens, features] if they are.
    """

    def __init__(self, processor: _PatternProcessor, asked: list[str], own: Any, others: Any) -> None:
        super().__init__()
        self.processor = processor
        self.asked = asked
        self.lengths = tuple(x.shape[1] if isinstance(x, Tensor) and x.dim() == 3 else None for x in (own, others))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is torch.Tensor.unflatten:  # calls of the function itself cannot be compiled
            return args[0].unflatten(*args[1:], **named)
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **named)
        self.asked.append(self.processor.name)
        given = dict(zip(("query", "key"), args, strict=False)) | named
        lengths = given["query"].shape[2], given["key"].shape[2]
        if lengths[0] != lengths[1] or lengths == self.lengths:  # the keys are tokens of another sequence
            return func(*args, **named)
        return self.processor.attend(*args, **named)

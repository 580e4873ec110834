"""Patterns in the transformers of diffusers: an attention processor that wraps the model's own.

The model's processor projects, normalises and rotates queries and keys as before; only its call of torch's
`scaled_dot_product_attention` is replaced by the pattern. So joint attention of text and image, and that of video, work
alike. Tokens are in the model's order: Flux and CogVideoX put the text before the image, Stable Diffusion 3 after it.
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
from maskdsl.base.libraries import missing
from maskdsl.integrations.layers import Choice, Layer, LayerPatterns, asked_scale, scaled_for
from maskdsl.integrations.padding import present_keys, without_padding
from maskdsl.integrations.positions import as_pages

try:
    import diffusers  # noqa: F401  # checks that it is installed
except ImportError as error:
    raise missing(error, f"`{__name__}`", "diffusers") from error

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
    """Makes the self-attention layers of a model compute a pattern. Cross-attention is left to the model.

    `pattern` is a `Mask`, bound for the model's number of tokens, or a `Pattern`, bound for the lengths of each call,
    which are its parameters `follow`, with these `parameters`. It may be a mapping from the numbers or names of
    `attentions`, or a function `(number, name)`; None leaves a layer to the model. `inputs` are the pattern's, by name.
    An earlier `use` is replaced.

    A mask of the model that hides the same keys from all queries, such as the padding of a text, makes these keys
    absent without moving others. Other masks are refused, unless `masks="pattern"` vouches that the pattern covers
    them. Raises `AttnError`.
    """
    patterns = LayerPatterns(type(model).__name__, pattern, parameters, follow, backend, masks)
    patterns.check()
    modules = attentions(model)
    if not modules:
        raise AttnError(errors.NoAttention(model=type(model).__name__))
    choices = [patterns.of(Layer(number, name)) for number, name in enumerate(modules)]
    restore(model)
    for number, (name, module) in enumerate(modules.items()):
        if choices[number] is not None:
            _set_processor(module, _wrapped(module.processor, patterns, number, name, dict(inputs or {})))


def restore(model: nn.Module) -> None:
    """Gives a model the processors back that it had before `use`. Does nothing to other models."""
    for module in attentions(model).values():
        if isinstance(module.processor, _PatternProcessor):
            _set_processor(module, module.processor.processor)


def _set_processor(module: Any, processor: Any) -> None:
    """Sets a module's processor, by its method if it has one."""
    if hasattr(module, "set_processor"):
        module.set_processor(processor)
    else:
        module.processor = processor


def attentions(model: nn.Module) -> dict[str, Any]:
    """The attention modules of a model by name, in its order, without those marked as cross-attention."""
    return {
        name: module
        for name, module in model.named_modules()
        if _is_attention(module) and not getattr(module, "is_cross_attention", False)
    }


def _is_attention(module: Any) -> bool:
    """Whether a module has an attention processor; some modules have one without a method that sets it."""
    processor = getattr(module, "processor", None)
    if processor is None or hasattr(module, "set_processor"):
        return processor is not None
    return isinstance(processor, _PatternProcessor) or "AttnProcessor" in type(processor).__name__


class _PatternProcessor:
    """Wraps a processor of diffusers, and computes a pattern in place of its attention."""

    def __init__(self, processor: Any, patterns: LayerPatterns, number: int, name: str, inputs: dict[str, Any]) -> None:
        self.processor = processor
        self.patterns = patterns
        self.number = number
        self.name = name
        self.inputs = inputs
        self.arguments = tuple(signature(processor.__call__).parameters)
        """The names of the processor's arguments."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _wrapped, (self.processor, self.patterns, self.number, self.name, self.inputs)

    def call(self, *arguments: Any, **named: Any) -> Any:
        """Calls the processor. Raises `NoSelfAttention` if it never called `scaled_dot_product_attention`."""
        given = dict(zip(self.arguments, arguments, strict=False)) | named
        attended: list[str] = []
        with _Intercepted(self, attended, given.get("hidden_states"), given.get("encoder_hidden_states")):
            result = self.processor(*arguments, **named)
        if not attended:
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
        """Replaces `scaled_dot_product_attention`, with its arguments, over [batch, heads, tokens, dim]."""
        if is_causal and self.patterns.masks != "pattern":
            raise AttnError(errors.ForeignMask(name=self.patterns.name, what="causal attention"))
        if dropout_p:
            cure = "set the attention dropout of the model to 0"
            raise AttnError(errors.AskedMore(name=self.patterns.name, argument="dropout_p", cure=cure))
        scale, heads = asked_scale(query, scale), Heads(query.shape[1], key.shape[1])
        attention = self.patterns.attention(Layer(self.number, self.name), heads, scale=scale)
        assert attention is not None
        query = scaled_for(attention, query, scale, self.patterns.name)
        paging: dict[str, Any] = {}
        if attn_mask is not None:
            batch, keys, vouched = key.shape[0], key.shape[2], self.patterns.masks == "pattern"
            present = present_keys(self.patterns.name, attn_mask, batch, keys, vouched)
            if is_compiling() or not bool(present.all()):  # a page per key: absent keys do not move others
                index = torch.arange(batch * keys, device=key.device).view(batch, keys)
                paging = {"query_start": 0, "page_table": torch.where(present, index, -1)}
                key, value = as_pages(key), as_pages(value)
        out: Tensor = attention(query, key, value, **paging, **self.inputs)
        return without_padding(out, attn_mask) if attn_mask is not None and paging else out


def _wrapped(
    processor: Any, patterns: LayerPatterns, number: int, name: str, inputs: dict[str, Any]
) -> _PatternProcessor:
    """A processor that wraps this one, with its signature."""
    return _wrapper_class(processor.__class__)(processor, patterns, number, name, inputs)


@cache
def _wrapper_class(kind: Any) -> type[_PatternProcessor]:
    """A `_PatternProcessor` whose `__call__` has the signature of `kind`: models pass only arguments that it names."""

    def call(self: _PatternProcessor, *arguments: Any, **named: Any) -> Any:
        return self.call(*arguments, **named)

    call.__signature__ = signature(kind.__call__)  # type: ignore[attr-defined]
    return type("PatternProcessor", (_PatternProcessor,), {"__call__": call})


class _Intercepted(TorchFunctionMode):
    """Sends calls of `scaled_dot_product_attention` with self-attention to a processor; appends its name to `attended`.

    `hidden` and `encoder_hidden` are the tokens that the model gives an attention, usually [batch, tokens, features].
    """

    def __init__(self, processor: _PatternProcessor, attended: list[str], hidden: Any, encoder_hidden: Any) -> None:
        super().__init__()
        self.processor = processor
        self.attended = attended
        tokens = hidden, encoder_hidden
        self.lengths = tuple(x.shape[1] if isinstance(x, Tensor) and x.dim() == 3 else None for x in tokens)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is torch.Tensor.unflatten:  # `torch.compile` cannot trace the function itself
            return args[0].unflatten(*args[1:], **named)
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **named)
        self.attended.append(self.processor.name)
        given = dict(zip(("query", "key"), args, strict=False)) | named
        lengths = given["query"].shape[2], given["key"].shape[2]
        if lengths[0] != lengths[1] or lengths == self.lengths:  # cross-attention
            return func(*args, **named)
        return self.processor.attend(*args, **named)

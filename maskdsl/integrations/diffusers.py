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
from torch.overrides import TorchFunctionMode

from maskdsl.diagnostics import AttnError
from maskdsl.errors import libraries as errors
from maskdsl.integrations.choices import Choice, Choices, Layer, rescaled
from maskdsl.ir.heads import Heads

try:
    import diffusers  # noqa: F401  # it is what models come from
except ImportError as error:
    raise AttnError(errors.MissingLibrary(module=__name__, library="diffusers", reason=str(error))) from error


def use(
    model: nn.Module,
    pattern: Choice,
    *,
    inputs: Mapping[str, Any] | None = None,
    follow: str | tuple[str, ...] = "n",
    backend: str = "auto",
    **parameters: Any,
) -> None:
    """Makes the self-attention of all layers of a model compute a pattern; attention to another sequence stays.

    `pattern` is a `Mask`, bound for the tokens of the model, or a `Pattern`, bound for the lengths of each call, which
    `follow` names, with these `parameters`; or a mapping by number or name, as `attentions` gives them, or a function
    `(number, name)`. `inputs` are the pattern's. What was used before is replaced. Raises `AttnError`.
    """
    choices = Choices(type(model).__name__, pattern, parameters, follow, backend)
    choices.check()
    found = attentions(model)
    if not found:
        raise AttnError(errors.NoAttention(model=type(model).__name__))
    for number, name in enumerate(found):
        choices.of(Layer(number, name))
    restore(model)
    for number, (name, module) in enumerate(found.items()):
        module.set_processor(around(module.processor, choices, number, name, dict(inputs or {})))


def restore(model: nn.Module) -> None:
    """Gives a model the processors back that it had before `use`."""
    for module in attentions(model).values():
        if isinstance(module.processor, PatternProcessor):
            module.set_processor(module.processor.processor)


def attentions(model: nn.Module) -> dict[str, Any]:
    """The attention modules by name, but for those that attend another sequence than their own."""
    return {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "set_processor")
        and hasattr(module, "processor")
        and not getattr(module, "is_cross_attention", False)
    }


class PatternProcessor:
    """Calls a processor of diffusers, with a pattern for its attention."""

    def __init__(self, processor: Any, choices: Choices, number: int, name: str, inputs: dict[str, Any]) -> None:
        self.processor = processor
        self.choices = choices
        self.number = number
        self.name = name
        self.inputs = inputs

    def __reduce__(self) -> tuple[Any, ...]:
        return around, (self.processor, self.choices, self.number, self.name, self.inputs)

    def call(self, *arguments: Any, **named: Any) -> Any:
        """What the processor gives, called with the same."""
        answers: list[str] = []
        with Answered(self, answers):
            result = self.processor(*arguments, **named)
        if not answers:
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
        if attn_mask is not None or is_causal:
            what = "a mask of its own" if attn_mask is not None else "causal attention"
            raise AttnError(errors.ForeignMask(name=self.choices.name, what=what))
        if dropout_p:
            cure = "set the attention dropout of the model to 0"
            raise AttnError(errors.AskedMore(name=self.choices.name, argument="dropout_p", cure=cure))
        attention = self.choices.attention(Layer(self.number, self.name), Heads(query.shape[1]))
        if scale is not None:
            query = rescaled(query, scale)
        out = attention(query, key, value, **self.inputs)
        assert isinstance(out, Tensor)
        return out


def around(processor: Any, choices: Choices, number: int, name: str, inputs: dict[str, Any]) -> PatternProcessor:
    """A processor that is called like this one."""
    return called_like(processor.__class__)(processor, choices, number, name, inputs)


@cache
def called_like(kind: Any) -> type[PatternProcessor]:
    """Processors with the signature of a kind: models give them only what it names."""

    def call(self: PatternProcessor, *arguments: Any, **named: Any) -> Any:
        return self.call(*arguments, **named)

    call.__signature__ = signature(kind.__call__)  # type: ignore[attr-defined]
    return type("PatternProcessor", (PatternProcessor,), {"__call__": call})


class Answered(TorchFunctionMode):
    """Has a processor answer calls of `scaled_dot_product_attention` among the same tokens; notes each."""

    def __init__(self, processor: PatternProcessor, answers: list[str]) -> None:
        super().__init__()
        self.processor = processor
        self.answers = answers

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is torch.Tensor.unflatten:  # calls of the function itself cannot be compiled
            return args[0].unflatten(*args[1:], **named)
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **named)
        given = dict(zip(("query", "key"), args, strict=False)) | named
        if given["query"].shape[2] != given["key"].shape[2]:
            return func(*args, **named)
        self.answers.append(self.processor.name)
        return self.processor.attend(*args, **named)

"""Patterns in vLLM: `MASKDSL_VLLM_PATTERN=file.attn:pattern vllm serve MODEL`, or `register`. Imports vLLM when asked.

vLLM calls `plugin` in each of its processes, by the entry point `vllm.general_plugins`.
"""

from __future__ import annotations

import ast
import os
from typing import Any

from maskdsl import AttnError, BackendName, Pattern, load
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Choice, LayerPatterns
from maskdsl.integrations.serving.served_patterns import REGISTERED, Registered

__all__ = ["register"]

VARIABLE = "MASKDSL_VLLM_PATTERN"
"""The variable of the environment that says which patterns vLLM computes."""


def register(
    pattern: Choice,
    *,
    follow: str = "n",
    backend: BackendName = "auto",
    inputs: dict[str, Any] | None = None,
    **parameters: Any,
) -> None:
    """Makes vLLM compute this pattern in the models that this process loads from now on.

    `pattern` is a `Mask` or a `Pattern` for all layers; or a mapping from kinds of layers ("sliding_attention",
    "full_attention", as in `config.layer_types`) or numbers; or a function of a `Layer`, or of number and type. None
    leaves a layer to the model. A `Pattern` is bound for the longest sequence, vLLM's `max_model_len`, which is its
    parameter `follow`, with these `parameters`. `inputs` are values that are alike for all sequences, such as slopes of
    heads. On a GPU, ask vLLM for `attention_backend="CUSTOM"`. vLLM's other processes know a pattern only by the
    variable `MASKDSL_VLLM_PATTERN`, or if they are forked from this one. Raises `AttnError`.
    """
    patterns = LayerPatterns("vllm", pattern, parameters, follow, backend)
    patterns.check()
    from maskdsl.integrations.vllm_backend import use  # an optional package, and start-up time

    REGISTERED["vllm"] = Registered(patterns, dict(inputs or {}))
    use()


def plugin() -> None:
    """Registers what `MASKDSL_VLLM_PATTERN` says, if it is set. Raises `AttnError`."""
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        choice, parameters = choice_of(text)
        register(choice, **parameters)


def choice_of(text: str) -> tuple[Choice, dict[str, Any]]:
    """The patterns that a text names, and values of their parameters: `file.attn:pattern(size=256)`, or by layers.

    `sliding_attention=file.attn:near; 3=file.attn:far; full_attention=model`, where `model` leaves layers to the model.
    Raises `AttnError`.
    """
    choice, parameters = dict[str | int, Pattern | None](), dict[str, Any]()
    entries = [each.strip() for each in text.split(";") if each.strip()]
    for entry in entries:
        key, equals, rest = entry.partition("=")
        if not equals or ":" in key:  # that of a parameter
            if len(entries) > 1:
                raise AttnError(_wrong(text, f"`{entry}` does not say which layers it is for"))
            return _pattern(text, entry)
        pattern, values = (None, {}) if rest.strip() == "model" else _pattern(text, rest.strip())
        for name, value in values.items():
            if parameters.setdefault(name, value) != value:
                raise AttnError(_wrong(text, f"`{name}` has two values, and patterns share their parameters"))
        choice[int(key) if key.strip().isdecimal() else key.strip()] = pattern
    return choice, parameters


def _pattern(text: str, entry: str) -> tuple[Pattern, dict[str, Any]]:
    """The pattern `file.attn:name`, and the values in `file.attn:name(size=256, kernel=(5, 5))`."""
    path, _, call = (each.strip() for each in entry.rpartition(":"))
    if not path:
        raise AttnError(_wrong(text, f"`{entry}` names no file"))
    try:
        match ast.parse(call, mode="eval").body:
            case ast.Name(id=name):
                return load(path)[name], {}
            case ast.Call(func=ast.Name(id=name), args=[], keywords=named):
                return load(path)[name], {str(each.arg): ast.literal_eval(each.value) for each in named}
            case _:
                raise AttnError(_wrong(text, f"`{call}` is no pattern"))
    except (SyntaxError, ValueError) as error:
        raise AttnError(_wrong(text, f"`{call}` is no pattern with values of its parameters")) from error


def _wrong(text: str, reason: str) -> errors.WrongVariable:
    return errors.WrongVariable(name=VARIABLE, text=text, reason=reason)

"""What a model of transformers does with an attention implementation, found when it is made or told to use one.

Not every model asks for attention by its implementation's name: some have attentions of their own, which would ignore a
pattern, and its mask with it. They are refused. Where a model asks, each attention is told its role once, by its name
in the model: the library calls them all alike.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, wraps
from inspect import getsource
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from maskdsl import AttnError, Heads
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Layer, LayerPatterns, Role

REGISTERED: dict[str, LayerPatterns] = {}
_ROLE = "maskdsl_role"
"""The attribute of attentions that says their role."""
_CROSS = re.compile(r"cross|encoder_attn|encdec|encoder_decoder")
_DECODERS = {"decoder", "language_model"}
_OWN = re.compile(r"softmax\(|scaled_dot_product_attention\(", re.IGNORECASE)
"""What an attention calls that does not ask for one."""
_LISTED = re.compile(r"_CLASSES\[[\w.]*_attn_implementation\]")
"""How a model looks up a class of attention by the name of an implementation."""
_READS = re.compile(r"\battention_mask\[")
"""What an attention does that makes a mask of its own from the one that it is given, such as of the keys it selects."""


def layer_of(module: nn.Module) -> Layer:
    """The number, the type and the role of the layer that an attention belongs to, as far as it has them."""
    number = getattr(module, "layer_idx", None)
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    kind = None if number is None or kinds is None or number >= len(kinds) else kinds[number]
    return Layer(number, kind, getattr(module, _ROLE, None) or _role_of(type(module).__name__, module))


def _role_of(name: str, module: nn.Module) -> Role:
    """By the name in a model, whose attributes say less: of `is_causal` decoders are not always told."""
    last = name.lower().rsplit(".", 2)[-2:]
    if getattr(module, "is_cross_attention", False) or any(_CROSS.search(each) for each in last):
        return "cross"
    causal = getattr(module, "is_causal", True) or not _DECODERS.isdisjoint(name.lower().split("."))
    return "self" if causal else "encoder"


def _check(model: PreTrainedModel) -> None:
    """Raises if part of a model that is to compute a pattern would not; tells attentions their roles."""
    roles: dict[str, set[Role]] = {}
    for name, module, owner in _parts(model):
        patterns = REGISTERED.get(getattr(owner.config, "_attn_implementation", None) or "")
        if patterns is None or not _is_attention(module):
            continue
        if not _asks(kind_of(module)):
            raise AttnError(errors.NoInterface(name=patterns.name, model=type(owner).__name__, part=f", in `{name}`"))
        if _READS.search(_text_of(kind_of(module))):
            raise AttnError(errors.ReadsMask(name=patterns.name, model=type(owner).__name__, part=name))
        role = _role_of(name, module)
        setattr(module, _ROLE, role)
        heads = getattr(getattr(module, "config", None), "num_attention_heads", None)
        with suppress(AttnError):  # of a part of a model, whose layers have no roles yet; else it is raised at the call
            patterns.attention(layer_of(module), Heads(heads or 1))  # now, as graphs of `torch.compile` cannot
        roles.setdefault(patterns.name, set()).add(role)
    for name, found in roles.items():
        if {"self", "encoder"} <= found and not REGISTERED[name].tells_roles:
            raise AttnError(errors.UnclearRole(name=name, model=type(model).__name__))


def _parts(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module, PreTrainedModel]]:
    """The modules by name, each with the model that it is a part of."""

    def below(module: nn.Module, name: str, owner: PreTrainedModel) -> Iterator[tuple[str, nn.Module, PreTrainedModel]]:
        owner = module if isinstance(module, PreTrainedModel) else owner
        yield name, module, owner
        for each, child in module.named_children():
            yield from below(child, f"{name}.{each}" if name else each, owner)

    return below(model, "", model)


def _is_attention(module: nn.Module) -> bool:
    """Whether it computes attention itself: it asks for it, or has scores of its own and no part that is one."""
    kind = kind_of(module)
    if _asks(kind):
        return True
    return _has_scores(kind) and not any(_asks(kind_of(each)) for each in module.modules())


def kind_of(module: nn.Module) -> Any:
    """Its class, as an argument that is kept by."""
    return type(module)


@cache
def _can_ask(kind: Any) -> bool:
    """Whether a model does not look its implementation up in a list of its own. Before there are parts to look at."""
    listed = sys.modules[kind.__module__]
    return bool(kind._can_set_attn_implementation()) and not _LISTED.search(getsource(listed))


@cache
def _asks(kind: Any) -> bool:
    """Whether a class asks for attention by the name of an implementation."""
    try:
        return "ALL_ATTENTION_FUNCTIONS" in getsource(kind.forward)
    except (OSError, TypeError):  # made by hand
        return False


@cache
def _has_scores(kind: Any) -> bool:
    """Whether a class of a model is an attention with a softmax of its own."""
    if kind.__module__.startswith("torch."):  # what images are pooled with
        return False
    return "attention" in kind.__name__.lower() and bool(_OWN.search(_text_of(kind)))


@cache
def _text_of(kind: Any) -> str:
    """The source of a class and those that it is made from, as far as models have it."""
    found = []
    for each in kind.__mro__[: kind.__mro__.index(nn.Module)]:
        try:
            found.append(getsource(each))
        except (OSError, TypeError):  # made by hand
            continue
    return "\n".join(found)


def _watch() -> None:
    """Has models checked when they are made and when they are told to use an implementation."""
    PreTrainedModel.get_correct_attn_implementation = _checked_asking(PreTrainedModel.get_correct_attn_implementation)
    PreTrainedModel.post_init = _checked_after(PreTrainedModel.post_init)
    PreTrainedModel.set_attn_implementation = _checked_setting(PreTrainedModel.set_attn_implementation)


def _checked_asking(asking: Callable[..., str]) -> Callable[..., str]:
    """Before a model is made: some would not find the name in a list of their own."""

    @wraps(asking)
    def checked(self: PreTrainedModel, requested_attention: str | None, *arguments: Any, **named: Any) -> str:
        if requested_attention in REGISTERED and not _can_ask(kind_of(self)):
            raise AttnError(errors.NoInterface(name=requested_attention, model=type(self).__name__, part=""))
        return asking(self, requested_attention, *arguments, **named)

    return checked


def _checked_after(post_init: Callable[..., None]) -> Callable[..., None]:
    @wraps(post_init)
    def checked(self: PreTrainedModel, *arguments: Any, **named: Any) -> None:
        post_init(self, *arguments, **named)
        if REGISTERED:
            _check(self)

    return checked


def _checked_setting(setting: Callable[..., None]) -> Callable[..., None]:
    """What cannot be set is a warning of the library's; of patterns it is an error, and nothing is changed."""

    @wraps(setting)
    def checked(self: PreTrainedModel, attn_implementation: Any, *arguments: Any, **named: Any) -> None:
        models = [each for each in self.modules() if isinstance(each, PreTrainedModel)]
        before = [(each.config, each.config._attn_implementation) for each in models]
        setting(self, attn_implementation, *arguments, **named)
        try:
            if not isinstance(attn_implementation, Mapping) and attn_implementation in REGISTERED:
                for each in models:
                    if each.config._attn_implementation != attn_implementation:
                        raise AttnError(
                            errors.NoInterface(name=attn_implementation, model=type(each).__name__, part="")
                        )
            _check(self)
        except AttnError:
            for config, implementation in before:
                config._attn_implementation_internal = implementation
            raise

    return checked


_watch()

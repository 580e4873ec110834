"""Checks models of transformers when they are made or set to an implementation, and gives their attentions roles.

Some models do not look attention up by the implementation's name but have code of their own, which would ignore a
pattern and its mask. They are refused. In other models each attention module gets an attribute with its role, derived
from its name in the model, since the library calls all of them alike.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache, wraps
from inspect import getsource
from typing import Any

from torch import nn
from transformers import GenerationMixin, PreTrainedModel

from maskdsl import AttnError, Heads
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Layer, LayerPatterns, Role
from maskdsl.integrations.shards import heads_before_call, is_fully_sharded

REGISTERED: dict[str, LayerPatterns] = {}
_ROLE = "maskdsl_role"
"""The attribute of attention modules that holds their role."""
_CROSS = re.compile(r"cross|encoder_attn|encdec|encoder_decoder")
_DECODERS = {"decoder", "language_model"}
_COMPUTES_SCORES = re.compile(r"softmax\(|scaled_dot_product_attention\(", re.IGNORECASE)
"""Calls in the source of an attention that computes scores itself."""
_LISTED = re.compile(r"_CLASSES\[[\w.]*_attn_implementation\]")
"""Source that looks up a class of attention by the name of an implementation, in a list of the model."""
_READS = re.compile(r"\battention_mask\[")
"""Source of an attention that slices its mask to make another one, such as for the keys that it selects."""


def layer_of(module: nn.Module) -> Layer:
    """The layer that an attention module belongs to: its number, type and role, as far as it has them."""
    number = getattr(module, "layer_idx", None)
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    kind = None if number is None or kinds is None or number >= len(kinds) else kinds[number]
    return Layer(number, kind, getattr(module, _ROLE, None) or _role_of(type(module).__name__, module, module))


def _role_of(name: str, module: nn.Module, owner: nn.Module) -> Role:
    """The role by the module's name in the model. `is_causal` is not enough: some decoders do not set it.

    Others, as CLIP's of texts, have attention that is not causal by itself; their `owner` tells it so in each call.
    """
    last = name.lower().rsplit(".", 2)[-2:]
    if getattr(module, "is_cross_attention", False) or any(_CROSS.search(each) for each in last):
        return "cross"
    causal = getattr(module, "is_causal", True) or not _DECODERS.isdisjoint(name.lower().split("."))
    return "self" if causal or _tells_causal(kind_of(owner)) else "encoder"


def _check(model: PreTrainedModel) -> None:
    """Sets the roles of a model's attentions. Raises if one of them would not compute the pattern that it should."""
    roles: dict[str, set[Role]] = {}
    for name, module, owner in _modules_with_owners(model):
        patterns = REGISTERED.get(getattr(owner.config, "_attn_implementation", None) or "")
        if patterns is None or not _is_attention(module):
            continue
        if not _asks(kind_of(module)):
            raise AttnError(errors.NoInterface(name=patterns.name, model=type(owner).__name__, part=f", in `{name}`"))
        if _READS.search(_text_of(kind_of(module))):
            raise AttnError(errors.ReadsMask(name=patterns.name, model=type(owner).__name__, part=name))
        role = _role_of(name, module, owner)
        setattr(module, _ROLE, role)
        heads = getattr(getattr(module, "config", None), "num_attention_heads", None) or 1
        shared = getattr(module, "num_key_value_groups", 1)
        cap = getattr(module, "attn_logit_softcapping", None)
        with suppress(AttnError):  # submodels are checked before roles are final; a real error is raised at the call
            # Compiles now: graphs of `torch.compile` cannot.
            patterns.attention(layer_of(module), Heads(heads, max(1, heads // int(shared))), cap)
        roles.setdefault(patterns.name, set()).add(role)
    for name, roles_told in roles.items():
        if {"self", "encoder"} <= roles_told and not REGISTERED[name].tells_roles:
            raise AttnError(errors.UnclearRole(name=name, model=type(model).__name__))


def _modules_with_owners(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module, PreTrainedModel]]:
    """The modules by name, each with the innermost `PreTrainedModel` that contains it."""

    def below(module: nn.Module, name: str, owner: PreTrainedModel) -> Iterator[tuple[str, nn.Module, PreTrainedModel]]:
        owner = module if isinstance(module, PreTrainedModel) else owner
        yield name, module, owner
        for each, child in module.named_children():
            yield from below(child, f"{name}.{each}" if name else each, owner)

    return below(model, "", model)


def _is_attention(module: nn.Module) -> bool:
    """Whether a module computes attention: it looks attention up, or has its own softmax and no submodule that does."""
    kind = kind_of(module)
    if _asks(kind):
        return True
    return _has_scores(kind) and not any(_asks(kind_of(each)) for each in module.modules())


def attentions_of(model: PreTrainedModel) -> Iterator[tuple[LayerPatterns | None, Layer, Heads]]:
    """Yields what is known of each attention before a call: its patterns, its layer, and its heads in this process."""
    modules = list(_modules_with_owners(model))
    sharded = [each for _, module, _ in modules if is_fully_sharded(module) for each in module.modules()]
    for _, module, owner in modules:
        if _is_attention(module):
            name = getattr(owner.config, "_attn_implementation", None) or ""
            here = heads_before_call(module, any(module is each for each in sharded))
            yield REGISTERED.get(name), layer_of(module), here


def kind_of(module: nn.Module) -> Any:
    """The class of a module, typed as a key for caches."""
    return type(module)


@cache
def _can_ask(kind: Any) -> bool:
    """Whether a class of models looks attention up by any implementation's name. Checked before it has submodules."""
    listed = sys.modules[kind.__module__]
    return bool(kind._can_set_attn_implementation()) and not _LISTED.search(getsource(listed))


@cache
def _asks(kind: Any) -> bool:
    """Whether a class of modules looks attention up by the name of an implementation."""
    try:
        return "ALL_ATTENTION_FUNCTIONS" in getsource(kind.forward)
    except (OSError, TypeError):  # no source file
        return False


@cache
def _tells_causal(kind: Any) -> bool:
    """Whether a class calls its layers with `is_causal=True`."""
    try:
        return "is_causal=True" in getsource(kind.forward)
    except (OSError, TypeError):  # no source file
        return False


@cache
def _has_scores(kind: Any) -> bool:
    """Whether a class of a model is an attention with its own softmax."""
    if kind.__module__.startswith("torch."):  # such as `nn.MultiheadAttention`, which pools images
        return False
    return "attention" in kind.__name__.lower() and bool(_COMPUTES_SCORES.search(_text_of(kind)))


@cache
def _text_of(kind: Any) -> str:
    """The source of a class and its bases up to `nn.Module`, as far as there are source files."""
    sources = []
    for each in kind.__mro__[: kind.__mro__.index(nn.Module)]:
        try:
            sources.append(getsource(each))
        except (OSError, TypeError):  # no source file
            continue
    return "\n".join(sources)


def _watch() -> None:
    """Wraps methods of the library: models are checked when they are made or set to an implementation."""
    PreTrainedModel.get_correct_attn_implementation = _checked_asking(PreTrainedModel.get_correct_attn_implementation)
    PreTrainedModel._check_and_adjust_attn_implementation = _without_hub(
        PreTrainedModel._check_and_adjust_attn_implementation
    )
    GenerationMixin._validate_model_kwargs = _with_inputs(GenerationMixin._validate_model_kwargs)
    PreTrainedModel.post_init = _checked_after(PreTrainedModel.post_init)
    PreTrainedModel.set_attn_implementation = _checked_setting(PreTrainedModel.set_attn_implementation)


def _checked_asking(asking: Callable[..., str]) -> Callable[..., str]:
    """Wraps `get_correct_attn_implementation`: refuses models that look up names in their own list."""

    @wraps(asking)
    def checked(self: PreTrainedModel, requested_attention: str | None, *arguments: Any, **named: Any) -> str:
        if requested_attention in REGISTERED and not _can_ask(kind_of(self)):
            raise AttnError(errors.NoInterface(name=requested_attention, model=type(self).__name__, part=""))
        return asking(self, requested_attention, *arguments, **named)

    return checked


def _without_hub(adjusting: Callable[..., str]) -> Callable[..., str]:
    """Wraps the check of a name: those of patterns are no kernels to be loaded, even if they look like `owner/name`."""

    @wraps(adjusting)
    def adjusted(self: PreTrainedModel, attn_implementation: str | None, *arguments: Any, **named: Any) -> str:
        if attn_implementation in REGISTERED:
            return str(self.get_correct_attn_implementation(attn_implementation))
        return adjusting(self, attn_implementation, *arguments, **named)

    return adjusted


def _with_inputs(validating: Callable[..., None]) -> Callable[..., None]:
    """Wraps the check of the arguments of `generate`: inputs of the model's patterns are no mistakes."""

    @wraps(validating)
    def validated(self: PreTrainedModel, model_kwargs: dict[str, Any]) -> None:
        owners = {owner for _, _, owner in _modules_with_owners(self)}
        used = (REGISTERED.get(getattr(each.config, "_attn_implementation", None) or "") for each in owners)
        names = {name for each in used if each is not None for name in each.inputs}
        validating(self, {name: value for name, value in model_kwargs.items() if name not in names})

    return validated


def _checked_after(post_init: Callable[..., None]) -> Callable[..., None]:
    """Wraps `post_init`: checks a new model."""

    @wraps(post_init)
    def checked(self: PreTrainedModel, *arguments: Any, **named: Any) -> None:
        post_init(self, *arguments, **named)
        if REGISTERED:
            _check(self)

    return checked


def _checked_setting(setting: Callable[..., None]) -> Callable[..., None]:
    """Wraps `set_attn_implementation`: where the library would warn, a pattern raises, and nothing is changed."""

    @wraps(setting)
    def checked(self: PreTrainedModel, attn_implementation: Any, *arguments: Any, **named: Any) -> None:
        models = [each for each in self.modules() if isinstance(each, PreTrainedModel)]
        before = [(each.config, each.config._attn_implementation) for each in models]
        setting(self, attn_implementation, *arguments, **named)
        _set_copies(self, models)
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


def _set_copies(model: PreTrainedModel, submodels: Sequence[PreTrainedModel]) -> None:
    """Sets submodels with a copy of the model's configuration, as encoders of T5 have: the library takes them for set.

    Only from and to a registered pattern.
    """
    for each in submodels:
        new, old = model.config._attn_implementation, each.config._attn_implementation
        is_copy = type(each.config) is type(model.config) and _can_ask(kind_of(each))
        if is_copy and not REGISTERED.keys().isdisjoint((new, old)):
            each.config._attn_implementation_internal = new


_watch()

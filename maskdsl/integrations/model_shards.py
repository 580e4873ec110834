"""Batches of a model of transformers for the processes of a group, each of which has some of the tokens.

A model computes every token alone but for its attention, and attentions get the tokens of the batch by an argument of
the call. So nothing of the model is changed: it is called with what its process has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from inspect import getsource
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.functional import pad
from transformers import PreTrainedModel
from transformers.loss.loss_utils import ForCausalLMLoss

from maskdsl import AttnError, Mask, shard_layers
from maskdsl.base.errors.calls import arguments
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.transformers_models import attentions_of

SHARDS = "token_shards"
"""The argument of a model, and so of its attentions, that holds the tokens of a batch on several processes."""
_IGNORED = -100
"""The label of tokens that no loss counts."""
_TOKENS = {"input_ids": 1, "inputs_embeds": 1, "token_type_ids": 1, "position_ids": -1}
"""Arguments of models with an entry for each token, and the dimension of the tokens."""
_KINDS = {"full_attention", "sliding_attention", "chunked_attention"}
_RECURRENT = re.compile("Mamba|Conv1d|Recurrent|DeltaNet|LinearAttention|Rwkv|SSM")
"""Names of classes of layers that carry something from token to token."""
_COMPUTES_LOSS = re.compile(r"self\.loss_function\([^)]*\*\*")
"""Source of a model whose loss takes shifted labels, and by how much to divide."""


class ModelShards:
    """Trains a model of transformers whose tokens several processes share (context parallelism).

    The model has a registered pattern in every attention layer. `group` is a process group, or a mesh of one dimension;
    heads may be shared along another one by tensor parallelism. Each process has all weights, or its shards of them:
    `averaged` says that somebody else takes the mean of their gradients over the group, as DDP and FSDP do. Other
    arguments are those of `Mask.shard`. Raises `AttnError`.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        group: dist.ProcessGroup | DeviceMesh,
        *,
        averaged: bool = False,
        per_node: int = 8,
        link: tuple[float, float] = (50.0, 400.0),
        block: int = 128,
    ) -> None:
        self._model, self._averaged = model, averaged
        self._group = _group_of(group)
        self._ranks = dist.get_world_size(self._group)
        _check(model)
        config = model.config.get_text_config()
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        dtype = str(model.dtype).removeprefix("torch.")
        self._options: dict[str, Any] = {"per_node": per_node, "link": link, "block": block}
        self._options |= {"head_dim": head_dim, "dtype": dtype}
        self._schemes: dict[int, Any] = {}
        self._causal: dict[int, bool] = {}
        self._of_last: tuple[int, Any] | None = None

    @property
    def tokens(self) -> Any:
        """The tokens of the last batch, with `scatter`, `gather` and `positions`: `tokens.gather(logits, 1)`.

        Raises `AttnError` before the first batch.
        """
        if self._of_last is None:
            advice = "call `shards.of(batch)` before"
            raise AttnError(errors.NotShardedBatch(argument="tokens", reason="are known after `of`", advice=advice))
        return self._of_last[1]

    def of(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """What this process calls the model with, of a whole batch, which all processes have: `model(**of(batch))`.

        `input_ids`, `labels` and `position_ids` are [batch, tokens], as the model takes them; inputs of patterns are
        given by name. The loss is then this process's share of the loss of all tokens: `labels` are shifted along the
        whole sequence, and the sum of losses is divided by the number of all labels, or by `num_items_in_batch`. With
        `averaged` it is as many times larger as there are processes. Raises `AttnError`.
        """
        given = {name: value for name, value in batch.items() if value is not None}
        _check_tokens(given)
        if self._of_last is None and "input_ids" in given:
            _check_same(given["input_ids"], self._group)
        self._check_batch(given)
        some = given["input_ids"] if "input_ids" in given else given["inputs_embeds"]
        tokens = self._tokens_for(some.shape[1], given)
        here = given | {
            name: tokens.scatter(given[name], dim).contiguous() for name, dim in _TOKENS.items() if name in given
        }
        here |= self._labels(given, tokens) | {SHARDS: tokens, "use_cache": False}
        here.setdefault("position_ids", tokens.positions.to(some.device)[None])
        # Of four axes, so that models hand it on as it is; of a type that attention without shards refuses.
        here["attention_mask"] = torch.empty(1, 1, 0, 0, dtype=torch.int8, device=some.device)
        return here

    def total(self, loss: Tensor) -> Tensor:
        """The loss of the whole batch, without gradients, from each process's."""
        whole = loss.detach().clone()
        dist.all_reduce(whole, group=self._group)
        return whole / self._ranks if self._averaged else whole

    def sum_gradients(self) -> None:
        """Sums the gradients of all weights over the group, once after `backward`; with `averaged` it does nothing."""
        weights = [] if self._averaged else [each for each in self._model.parameters() if each.requires_grad]
        if not weights:
            return
        has = torch.tensor([each.grad is not None for each in weights], dtype=torch.int32, device=weights[0].device)
        dist.all_reduce(has, dist.ReduceOp.MAX, self._group)
        for weight, anywhere in zip(weights, has.tolist(), strict=True):
            if anywhere:  # of experts that only tokens of another process chose, here is none
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                grad: Any = weight.grad
                dist.all_reduce(grad.to_local() if hasattr(grad, "to_local") else grad, group=self._group)

    def _labels(self, given: Mapping[str, Any], tokens: Any) -> dict[str, Any]:
        """The labels of this process's tokens, shifted, and what the sum of their losses is divided by."""
        shifted = given.get("shift_labels")
        if shifted is None and "labels" in given:
            shifted = pad(given["labels"], (0, 1), value=_IGNORED)[..., 1:]
        if shifted is None:
            return {}
        count = given.get("num_items_in_batch", (shifted != _IGNORED).sum())
        here = tokens.scatter(shifted, 1).contiguous()
        count = count / self._ranks if self._averaged else count
        return {"labels": here, "shift_labels": here, "num_items_in_batch": count}

    def _tokens_for(self, length: int, given: Mapping[str, Any]) -> Any:
        """The tokens of a batch: those of the last one if it has the same plan, else planned with the same scheme."""
        if self._of_last is not None and self._of_last[0] == length and _is_planned(self._of_last[1].plan, given):
            return self._of_last[1]
        masks = list(_masks(self._model, length))
        names = {each.name for mask in masks for each in mask.inputs}
        inputs = {name: _array(given[name]) for name in names if name in given}
        plan = shard_layers(masks, self._ranks, scheme=self._schemes.get(length), **self._options, **inputs)
        self._schemes[length] = plan.scheme
        self._of_last = length, plan.on(self._group)
        return self._of_last[1]

    def _hides_no_token(self, mask: Tensor) -> bool:
        """Whether a mask of the batch hides nothing that a token depends on: padding at the end of causal patterns."""
        if mask.dim() != 2 or bool((mask.int().diff() > 0).any()):
            return False
        length = mask.shape[1]
        if not bool(mask.all()) and length not in self._causal:
            self._causal[length] = all(
                map(_is_causal, {id(each): each for each in _masks(self._model, length)}.values())
            )
        return bool(mask.all()) or self._causal[length]

    def _check_batch(self, given: Mapping[str, Any]) -> None:
        """Raises `NotShardedBatch` for what a pattern has to say instead, and `NotShardedModel` for losses."""
        mask, positions = given.get("attention_mask"), given.get("position_ids")
        if mask is not None and not self._hides_no_token(mask):
            advice = (
                "pad at the end, for patterns without inputs in which queries depend on no later token; or pack texts, "
                "and tell them apart by an input: `attend ... and same(document)`"
            )
            reason = "hides tokens, which only a pattern can say"
            raise AttnError(errors.NotShardedBatch(argument="attention_mask", reason=reason, advice=advice))
        if any(given.get(each) is not None for each in ("past_key_values", "cu_seq_lens_q")):
            name = "past_key_values" if "past_key_values" in given else "cu_seq_lens_q"
            advice = "leave it out; texts of a batch are told apart by an input of the pattern, `same(document)`"
            raise AttnError(errors.NotShardedBatch(argument=name, reason="cannot be shared", advice=advice))
        if positions is not None and positions.dim() == 2 and not bool((positions.diff() == 1).all()):
            vouched = all(
                patterns is not None and patterns.masks == "pattern" for patterns, _, _ in attentions_of(self._model)
            )
            if not vouched:
                advice = (
                    "declare `input document: int[batch, tokens]` in the pattern, attend `same(document)`, give the "
                    'documents with the batch, and register with masks="pattern"'
                )
                reason = "begin anew: the batch has several texts, and the pattern has to tell them apart"
                raise AttnError(errors.NotShardedBatch(argument="position_ids", reason=reason, advice=advice))
        if {"labels", "shift_labels"} & given.keys():
            _check_loss(self._model)


def _group_of(given: Any) -> dist.ProcessGroup:
    """The group of an argument: itself, that of a mesh of one dimension, or of all processes for None."""
    group = dist.group.WORLD if given is None else given
    if isinstance(group, DeviceMesh) and group.ndim == 1:
        return group.get_group()
    if isinstance(group, dist.ProcessGroup):
        return group
    shown = f"a mesh of {group.ndim} dimensions" if isinstance(group, DeviceMesh) else repr(given)
    expected = '`dist.group.WORLD` after `dist.init_process_group`, or one dimension of a mesh: `mesh["cp"]`'
    raise AttnError(arguments.WrongArgument(name="group", found=shown, expected=expected))


def _check_tokens(given: Mapping[str, Any]) -> None:
    """Raises `NotShardedBatch` if a batch has no tokens, or none in tensors."""
    name = "inputs_embeds" if "inputs_embeds" in given and "input_ids" not in given else "input_ids"
    if not isinstance(given.get(name), Tensor):
        reason = f"are of the type {type(given[name]).__name__}" if name in given else "are missing"
        advice = "give a tensor `input_ids` [batch, tokens], or `inputs_embeds`, as the model takes them"
        raise AttnError(errors.NotShardedBatch(argument=name, reason=reason, advice=advice))


def _check_same(input_ids: Tensor, group: dist.ProcessGroup) -> None:
    """Raises `NotShardedBatch` on all processes if they have batches of other shapes or sums."""
    every: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(every, ([*input_ids.shape], int(input_ids.sum())), group)
    if any(each != every[0] for each in every):
        advice = "give all processes of a group one batch, whole: a sampler serves groups here, and not processes"
        reason = "are others on other processes"
        raise AttnError(errors.NotShardedBatch(argument="input_ids", reason=reason, advice=advice))


def _is_planned(plan: Any, given: Mapping[str, Any]) -> bool:
    """Whether the inputs that decide a plan's tiles are those of a batch."""
    decided = {name: array for each in plan.inputs for name, array in each.items()}
    return all(name in given and np.array_equal(_array(given[name]), array) for name, array in decided.items())


def _array(x: Any) -> Any:
    if not isinstance(x, Tensor):
        return x
    x = x.detach().cpu()
    return (x.float() if x.dtype == torch.bfloat16 else x).numpy()  # which NumPy does not have


def _masks(model: PreTrainedModel, length: int) -> Iterator[Mask]:
    """The mask of each attention layer, first to last. Raises `NotShardedModel` if one has none."""
    for patterns, layer, heads in attentions_of(model):
        mask = None if patterns is None else patterns.mask(layer, heads, length)
        if mask is None:
            reason = f"its layer {layer.number} has no pattern that tokens can be planned for"
            advice = "register a pattern for every layer, not what `compile` gives, and set it as `attn_implementation`"
            raise AttnError(errors.NotShardedModel(model=type(model).__name__, reason=reason, advice=advice))
        yield mask


def _is_causal(mask: Mask) -> bool:
    """Whether queries depend on no later token, whatever the inputs are; False where that depends on some."""
    try:
        return mask.guarantee().causality[-1].holds
    except AttnError:  # of an input that is missing
        return False


def _check(model: PreTrainedModel) -> None:
    """Raises `NotShardedModel` if something beside attention goes from token to token."""
    kinds = {*(getattr(model.config.get_text_config(), "layer_types", None) or ())} - _KINDS
    carried = sorted({name for each in model.modules() if _RECURRENT.search(name := type(each).__name__)})
    if kinds or carried or getattr(model.config, "is_encoder_decoder", False):
        what = ", ".join(f"`{each}`" for each in (*sorted(kinds), *carried)) or "an encoder and a decoder"
        advice = "only decoders and encoders whose tokens meet in their attention alone can"
        raise AttnError(errors.NotShardedModel(model=type(model).__name__, reason=f"it has {what}", advice=advice))


def _check_loss(model: PreTrainedModel) -> None:
    """Raises `NotShardedModel` for losses that are no sum over tokens, or not of the next one."""
    config = model.config.get_text_config()
    is_of_next = "_loss_function" in vars(model) or model.loss_function is ForCausalLMLoss
    shifts = is_of_next and _COMPUTES_LOSS.search(getsource(type(model).forward))
    if not shifts or getattr(config, "output_router_logits", False):
        reason = "its loss is not the mean over the next tokens"
        advice = (
            "leave `labels` out, and compute the loss of its `logits`, which are those of `shards.tokens.positions`"
        )
        raise AttnError(errors.NotShardedModel(model=type(model).__name__, reason=reason, advice=advice))

"""Small models with random weights, saved for vLLM, and their next tokens by transformers with dense masks."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AttentionInterface,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from tests.served.masks import Selects

SIZES: dict[str, Any] = {
    "vocab_size": 256,
    "hidden_size": 128,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "initializer_range": 0.3,
}
LONGEST = 512
_selects: dict[int | None, Selects] = {}
"""What the layers of the model that computes attend, by number; None: all others."""

_cache: list[torch.dtype | None] = []
"""What its keys and values are rounded to."""


def made(kind: str, folder: Path) -> tuple[PreTrainedModel, str]:
    """A model, and the folder that holds it."""
    torch.manual_seed(0)
    long = {**SIZES, "max_position_embeddings": LONGEST}
    model: PreTrainedModel
    match kind:
        case "llama":
            model = LlamaForCausalLM(LlamaConfig(**long))
        case "mistral":
            model = MistralForCausalLM(MistralConfig(**long, sliding_window=32))
        case "gpt_oss":
            experts = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 32}
            types = ["sliding_attention", "full_attention"]
            model = GptOssForCausalLM(GptOssConfig(**long, **experts, layer_types=types))
            for layer in model.model.layers:
                torch.nn.init.normal_(layer.self_attn.sinks, std=2.0)
        case _:
            raise ValueError(kind)
    model = model.eval().float()
    model.set_attn_implementation("dense")
    model.save_pretrained(folder / kind)
    return model, str(folder / kind)


def next_tokens(
    model: PreTrainedModel, tokens: list[int], selects: dict[int | None, Selects], cache: torch.dtype | None = None
) -> list[int]:
    """The token that the model likes best after each of these, with keys and values rounded to the type of a cache."""
    _selects.clear()
    _selects.update(selects)
    _cache[:] = [cache]
    with torch.no_grad():
        found = model(torch.tensor([tokens])).logits[0].argmax(-1)
    return list(found.tolist())


def _dense(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: object, scaling: float, **others: Any
) -> tuple[Tensor, None]:
    """The attention of a layer by its dense mask; sinks are one more score a head."""
    key, value = (x if each is None else x.to(each).to(x.dtype) for x in (key, value) for each in _cache)
    key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    select = _selects.get(module.layer_idx, _selects.get(None))
    assert select is not None
    scores = (query @ key.mT * scaling).masked_fill(~select(query, key), -torch.inf)
    if others.get("s_aux") is not None:
        sinks = others["s_aux"].reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sinks], dim=-1)
    return (scores.softmax(-1)[..., : key.shape[2]] @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register("dense", _dense)

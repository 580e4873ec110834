"""Models of transformers that differ in masks, scales and heads: their eager attention, layer by layer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers

import maskdsl
from tests.integrations.tiny import tiny
from tests.support.side_libraries import side_library
from tests.zoo.capture import attentions
from tests.zoo.families import Compared, Family, example, stirred

TOKENS = 20


@dataclass(frozen=True)
class Model:
    """A model of texts, and the patterns of its layers."""

    kind: str
    patterns: tuple[tuple[maskdsl.Pattern, Mapping[str, float]], ...]
    """Of each layer: a pattern, and its parameters."""
    own: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Of the inputs of patterns, the attributes of an attention module that are given."""

    def __call__(self) -> Iterator[Compared]:
        kind = getattr(transformers, self.kind)
        config = tiny(kind.config_class, num_hidden_layers=len(self.patterns), **self.own)
        config._attn_implementation = "eager"
        model = stirred(kind(config))
        tokens = torch.randint(6, 60, (2, TOKENS))
        found = attentions(model, tokens, use_cache=False)
        modules = [each for each in model.modules() if hasattr(each, "scaling")]
        modules = modules or [each for each in model.modules() if type(each).__name__.endswith("Attention")]
        calls = len(found) // len(modules)  # of each: a difference of two attentions calls twice
        assert len(modules) == len(self.patterns) and len(found) == calls * len(modules)
        for number, each in enumerate(found):
            module, (pattern, values) = modules[number // calls], self.patterns[number // calls]
            mask = pattern.bind(n=TOKENS, heads=each.q.shape[1], **values)
            inputs = {each.name: getattr(module, self.inputs[each.name]) for each in mask.inputs}
            leaves = each.leaves + tuple(inputs.values())
            yield Compared(mask, each.q, each.k, each.v, each.out, leaves, inputs, getattr(module, "scaling", None))


LAST = example("language", "sliding_window", "sliding_window"), {"size": 6}
CAUSAL = example("language", "causal", "causal_dense"), {}
ALL = example("language", "dense", "dense"), {}
AROUND = example("language", "modernbert", "local"), {"size": 6}
CHUNKED = example("language", "chunked", "chunked"), {"chunk": 8}
CAPPED = example("language", "gemma", "gemma2_layer")
SLIDING_SINK = example("language", "gpt_oss", "sliding"), {"size": 6}
MIXED = {"sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
ONE = {"sliding_window": 6}
SINKS = {"logit": "sinks"}


def gemma3n() -> Iterator[Compared]:
    """It is not imported without timm, which its images need."""
    side_library("timm")
    yield from Model("Gemma3nTextModel", (LAST, CAUSAL), MIXED)()


FAMILIES: dict[str, Family] = {
    "llama": Model("LlamaModel", (CAUSAL,)),
    "mistral": Model("MistralModel", (LAST,), ONE),
    "phi3": Model("Phi3Model", (LAST,), ONE),
    "qwen2": Model("Qwen2Model", (LAST, CAUSAL), {**MIXED, "use_sliding_window": True}),
    "qwen3": Model("Qwen3Model", (LAST, CAUSAL), {**MIXED, "use_sliding_window": True}),
    "starcoder2": Model("Starcoder2Model", (LAST,), ONE),
    "olmo3": Model("Olmo3Model", (LAST, CAUSAL), MIXED),
    "exaone4": Model("Exaone4Model", (LAST, CAUSAL), MIXED),
    "smollm3": Model("SmolLM3Model", (CAUSAL,)),
    "nemotron": Model("NemotronModel", (CAUSAL,)),
    "granite": Model("GraniteModel", (CAUSAL,), {"attention_multiplier": 0.2}),
    "ministral": Model("MinistralModel", (LAST, CAUSAL), MIXED),
    "cohere2": Model("Cohere2Model", (LAST, CAUSAL), MIXED),
    "deepseek_v3": Model("DeepseekV3Model", (CAUSAL,)),
    "gemma2": Model(
        "Gemma2Model",
        ((CAPPED, {"size": 6, "cap": 2.0}), (CAPPED, {"size": TOKENS, "cap": 2.0})),
        {**MIXED, "attn_logit_softcapping": 2.0},
    ),
    "gemma3": Model("Gemma3TextModel", (LAST, CAUSAL), MIXED),
    "gemma3_bidirectional": Model("Gemma3TextModel", (AROUND, ALL), {**MIXED, "use_bidirectional_attention": True}),
    "gemma3n": gemma3n,
    "llama4": Model(
        "Llama4TextModel",
        (CHUNKED, CAUSAL),
        {
            "attention_chunk_size": 8,
            "layer_types": ["chunked_attention", "full_attention"],
            "no_rope_layers": [1, 0],
        },
    ),
    "gpt_oss": Model("GptOssModel", (SLIDING_SINK, (example("language", "gpt_oss", "full"), {})), MIXED, SINKS),
    "modernbert": Model(
        "ModernBertModel",
        (AROUND, ALL),
        {"local_attention": 6, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "gpt2": Model("GPT2Model", (CAUSAL,)),
    "bert": Model("BertModel", (ALL,), {"is_decoder": False}),
    "esm": Model("EsmModel", (ALL,), {"vocab_size": 64, "pad_token_id": 1, "position_embedding_type": "rotary"}),
    "mimo_v2_flash": Model("MiMoV2FlashModel", (SLIDING_SINK, CAUSAL), MIXED, SINKS),
    "minimax": Model("MiniMaxModel", (CAUSAL,), {"layer_types": ["full_attention"]}),
    "diffllama": Model("DiffLlamaModel", (CAUSAL,)),
}

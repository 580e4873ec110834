"""The models that are compared whole, by name."""

from typing import Any

from tests.integrations.whole import (
    ACROSS,
    CAUSAL,
    DENSE,
    IMAGE,
    MODULE,
    SLIDING,
    Whole,
    heard,
    looked_at,
    paired,
    shown,
    shown_in_front,
    shown_in_spans,
    translated,
)

WINDOW = {"sliding_window": 6}
ALTERNATING = {**WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
TOWER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
}
DECODER = {"self": CAUSAL, "encoder": None}


def by_role(number: int | None, kind: str | None, role: str) -> Any:
    return {"self": CAUSAL, "encoder": DENSE, "cross": ACROSS}[role]


def pictures(number: int | None, kind: str | None, role: str) -> Any:
    if role != "self":
        return None
    return MODULE["near_pictures" if kind == "sliding_attention" else "pictures"]


def seen(model: str, text: dict[str, Any], vision: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The configuration of a model of images and text."""
    sizes = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
    return {
        "text_config": {"model_type": model, **sizes, **ends, **text},
        "vision_config": {**TOWER, **vision},
        "image_token_index": IMAGE,
        **ends,
        **others,
    }


BIASED = {"self": MODULE["biased"], "encoder": MODULE["biased"].compile(heads=4, follow="n", sees_ahead=True)}
WHOLE = {
    "llama": Whole("LlamaForCausalLM", CAUSAL),
    "mistral": Whole("MistralForCausalLM", MODULE["local"], WINDOW),
    "gemma2": Whole("Gemma2ForCausalLM", SLIDING, {**ALTERNATING, "attn_logit_softcapping": 2.0}),
    "gemma3": Whole("Gemma3ForCausalLM", SLIDING, ALTERNATING),
    "llama4": Whole(
        "Llama4ForCausalLM",
        {"chunked_attention": MODULE["chunked"], "full_attention": CAUSAL},
        {"attention_chunk_size": 6, "layer_types": ["chunked_attention", "full_attention"], "no_rope_layers": [1, 0]},
        caches=("dynamic",),
    ),
    "modernbert": Whole(
        "ModernBertForMaskedLM",
        {"sliding_attention": MODULE["around"], "full_attention": DENSE},
        {"local_attention": 6, "layer_types": ["sliding_attention", "full_attention"]},
        caches=(),
    ),
    "t5": Whole("T5ForConditionalGeneration", BIASED, {"decoder_start_token_id": 2}, given=translated),
    "whisper": Whole(
        "WhisperForConditionalGeneration",
        by_role,
        {"num_mel_bins": 8, "max_source_positions": 13, "max_target_positions": 40, "decoder_start_token_id": 2},
        given=heard,
    ),
    "paligemma": Whole(
        "PaliGemmaForConditionalGeneration",
        {"self": MODULE["prefix"], "encoder": None},
        seen("gemma", {}, {"patch_size": 4}, projection_dim=32),
        masks="pattern",
        given=shown_in_front,
        mine=frozenset({"in_prefix"}),
    ),
    "gemma3_images": Whole(
        "Gemma3ForConditionalGeneration",
        pictures,
        seen("gemma3_text", ALTERNATING, {"patch_size": 2}, mm_tokens_per_image=4),
        masks="pattern",
        given=shown_in_spans,
        mine=frozenset({"picture"}),
    ),
    "llava": Whole(
        "LlavaForConditionalGeneration",
        DECODER,
        seen("llama", {}, {"patch_size": 4}),
        given=shown,
    ),
    "gpt_oss": Whole("GptOssForCausalLM", SLIDING, {**ALTERNATING, "num_experts_per_tok": 2}),
    "gpt_oss_sinks": Whole(
        "GptOssForCausalLM",
        {"sliding_attention": MODULE["sunk"].compile(heads=4, key_heads=2, size=6), "full_attention": MODULE["sunk"]},
        {**ALTERNATING, "num_experts_per_tok": 2},
    ),
    "clip": Whole(
        "CLIPModel",
        {"self": CAUSAL, "encoder": DENSE},
        {
            "text_config": {
                **{name: TOWER[name] for name in TOWER if name != "image_size"},
                "vocab_size": 64,
                "max_position_embeddings": 16,
                "eos_token_id": 62,
                "pad_token_id": 0,
            },
            "vision_config": {**TOWER, "patch_size": 4},
            "projection_dim": 32,
        },
        given=paired,
        caches=(),
        result="logits_per_text",
    ),
    "dinov2": Whole(
        "Dinov2Model", DENSE, {**TOWER, "patch_size": 2}, given=looked_at, caches=(), result="last_hidden_state"
    ),
    "gpt2": Whole("GPT2LMHeadModel", CAUSAL),
    "gpt_neox": Whole("GPTNeoXForCausalLM", CAUSAL),
    "opt": Whole("OPTForCausalLM", CAUSAL),
    "deepseek_v3": Whole("DeepseekV3ForCausalLM", CAUSAL),
}

"""Models of transformers made small: their own configurations, with sizes by name and what else a kind needs."""

import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

SIZES = {
    1: "n_group topk_group num_expert_group num_nextn_predict_layers n_shared_experts num_shared_experts"
    " moe_num_shared_experts",
    2: "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers num_key_value_heads num_kv_heads"
    " num_query_groups n_kv_heads num_experts_per_tok num_experts_per_token moe_k top_k moe_topk num_decoder_layers"
    " num_encoder_layers",
    4: "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads num_local_experts"
    " num_experts n_routed_experts moe_num_experts index_n_heads linear_num_heads linear_num_key_heads"
    " linear_num_value_heads mamba_num_heads",
    8: "head_dim rotary_dim d_kv qk_nope_head_dim qk_rope_head_dim v_head_dim kv_lora_rank linear_head_dim dim_head"
    " linear_key_head_dim linear_value_head_dim index_head_dim hidden_size_per_layer_input laurel_rank hc_lowrank",
    16: "qk_head_dim q_lora_rank mamba_d_state ssm_state_size mamba_d_head mamba_head_dim mamba_chunk_size chunk_size"
    " adapter_rank",
    32: "hidden_size n_embd d_model dim n_embed lru_width ple_embed_dim emb_dim embedding_size",
    48: "intermediate_size ffn_dim n_inner d_ff dff dim_ff decoder_ffn_dim encoder_ffn_dim ffn_hidden_size"
    " moe_intermediate_size expert_ffn_hidden_size shared_expert_intermediate_size shared_intermediate_size"
    " intermediate_size_mlp moe_shared_expert_intermediate_size",
    64: "vocab_size n_words max_position_embeddings n_positions n_ctx max_seq_len max_sequence_length sliding_window"
    " attention_chunk_size vocab_size_per_layer_input ngram_vocab_size_base",
}
SIZE = {name: size for size, names in SIZES.items() for name in names.split()}
BOTH_WAYS = {
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
}
"""Those that are decoders only if they are told so."""
HALF_LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
OTHERS = {
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 4},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "num_kv_shared_layers": 0,
        "intermediate_size": [48, 48],
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gemma4_text": {"per_layer_config": {}},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"], "mamba_n_heads": 4},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": HALF_LINEAR,
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "llama4_text": {"num_experts_per_tok": 1},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "nemotron_h": {
        "mamba_num_heads": 8,
        "n_groups": 4,
        "layers_block_type": ["linear_attention", "full_attention"],
    },
    "qwen3_5_moe_text": HALF_LINEAR,
    "qwen3_5_text": HALF_LINEAR,
    "qwen3_next": HALF_LINEAR,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_embds": False,
        "num_buckets": 4,
        "attention_head_size": 8,
        "feed_forward_size": 48,
        "is_decoder": True,
    },
    "xlm": {"causal": True},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 4,
        "layer_types": ["linear_attention", "hybrid"] * 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "attention_head_dim": 16,
        "attention_hidden_size": 64,
        "use_mamba_kernels": False,
    },
    "zaya": {"num_experts_per_tok": 1},
}
LEFT_OUT = {
    "blt": "decodes bytes with models of its own",
    "cohere_compass_text": "its default has no rotary embeddings",
    "dbrx": "its configuration refuses its own dictionary",
    "gemma3n": "needs timm",
    "gemma4_assistant": "drafts with another model's keys",
    "gemma4_unified_assistant": "drafts with another model's keys",
    "musicgen": "needs three configurations",
    "musicgen_melody": "needs three configurations",
    "qwen4_exp": "its configuration has no default sizes of n-grams",
    "qwen4_exp_text": "its configuration has no default sizes of n-grams",
    "xlstm": "no attention, and needs kernels",
    "zamba2": "its shared layers do not fit a small number of layers",
}


def tiny(kind, **others):
    """A configuration of this class, small."""
    default, given = kind(), {}
    for name, value in default.to_dict().items():
        if name in SIZE and isinstance(value, int) and not isinstance(value, bool) and value > SIZE[name]:
            given[name] = SIZE[name]
    if getattr(default, "num_key_value_heads", None) == getattr(default, "num_attention_heads", 0):
        given["num_key_value_heads"] = 4
    for name in getattr(kind, "sub_configs", None) or {}:
        if getattr(default, name, None) is not None:
            given[name] = tiny(type(getattr(default, name))).to_dict()
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        if isinstance(getattr(default, name, None), int):
            given[name] = 1
    if kind.model_type in BOTH_WAYS:
        given["is_decoder"] = True
    return kind(**{**given, **OTHERS.get(kind.model_type, {}), **others})


def causal_models():
    """The names of the library's models of text that predict the next token, and their classes."""
    for name, found in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        yield name, found if isinstance(found, str) else found[0]


def causal_model(name, attention, **others):
    """One of them with random weights, the same whatever its attention."""
    kind = getattr(transformers, dict(causal_models())[name])
    config = tiny(kind.config_class, **others)
    config._attn_implementation = attention
    transformers.set_seed(0)
    return kind(config).eval()

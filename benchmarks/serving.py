"""vLLM on a CPU with a pattern and with its own attention: `python benchmarks/serving.py [--write FILE]`.

In the environment of `make test-vllm`. A small model with random weights reads prompts and appends tokens, one thread.
Times are processor time, since other work on the machine only ever adds. Pages are those that a request holds after a
step: the most of any step, the prompt's chunks included, and the most while it appends tokens.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
}
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch  # what is above is read by imports
import vllm
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.v1.attention.backends.registry import AttentionBackendEnum

import maskdsl
from maskdsl.integrations.vllm import register

WINDOW, SINKS, BLOCK, CHUNK, LONGEST, NEW = 256, 4, 16, 512, 8192, 64
THEIRS = 32
"""The least page that vLLM's own attention takes on a CPU."""
SIZES: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": LONGEST,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
}
MODULE = maskdsl.parse("""
pattern kept(n, size, first) { space t[n]  attend causal and (backward(size) or k < first) }
pattern strided(n, size) { space t[n]  attend causal and (backward(size) or (q - k) % size == 0) }
""")
ROWS: dict[str, tuple[str, dict[str, int] | None]] = {
    "kept": ("llama", {"size": WINDOW, "first": SINKS}),
    "vLLM, causal": ("llama", None),
    "vLLM, window": ("mistral", None),
    "strided": ("llama", {"size": WINDOW}),
}
"""The model of each row, and the values of its pattern's parameters; None: vLLM's own attention."""


def saved(folder: Path) -> None:
    """The models: of one size, and alike but for the window."""
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**SIZES)).save_pretrained(folder / "llama")
    MistralForCausalLM(MistralConfig(**SIZES, sliding_window=WINDOW)).save_pretrained(folder / "mistral")


def held(engine: Any) -> int:
    """The most pages that a request holds in any group of layers that share them."""
    managers = engine.engine_core.engine_core.scheduler.kv_cache_manager.coordinator.single_type_managers
    counts = [sum(not block.is_null for block in blocks) for each in managers for blocks in each.req_to_blocks.values()]
    return max(counts, default=0)


def run(engine: Any, prompts: list[list[int]]) -> dict[str, Any]:
    """Steps until all requests are done: processor time, tokens and pages, of prompts and of appended tokens."""
    wanted = SamplingParams(temperature=0, max_tokens=NEW, detokenize=False, ignore_eos=True)
    for number, tokens in enumerate(prompts):
        engine.add_request(str(number), {"prompt_token_ids": tokens}, wanted)
    seconds, pages, appended = {"prompt": 0.0, "decode": 0.0}, {"prompt": 0, "decode": 0}, 0
    while engine.has_unfinished_requests():
        began = time.process_time()
        outputs = engine.step()
        spent, count = time.process_time() - began, sum(len(each.outputs[0].token_ids) > 1 for each in outputs)
        phase = "decode" if count == len(prompts) else "prompt"
        appended += count if phase == "decode" else 0
        seconds[phase] += spent
        pages[phase] = max(pages[phase], held(engine))
    return {
        "prompt_tokens_a_second": round(sum(map(len, prompts)) / seconds["prompt"]),
        "new_tokens_a_second": round(appended / seconds["decode"], 1),
        "most_pages": max(pages.values()),
        "pages_while_decoding": pages["decode"],
    }


def row(name: str, folder: Path, lengths: list[int]) -> dict[str, Any]:
    """The figures of a row, by length of the prompts."""
    model, parameters = ROWS[name]
    if parameters is None:
        AttentionBackendEnum.CPU_ATTN.clear_override()
    else:
        register(MODULE[name], **parameters)
    engine = LLM(
        str(folder / model),
        skip_tokenizer_init=True,
        dtype="float32",
        max_model_len=LONGEST,
        block_size=THEIRS if parameters is None else BLOCK,
        enforce_eager=True,
        enable_prefix_caching=False,
        max_num_batched_tokens=CHUNK,
    )
    torch.manual_seed(1)
    run(engine.llm_engine, [torch.randint(1, 512, (40,)).tolist()])  # compiles, warms up
    made = {}
    for length in lengths:
        made[str(length)] = run(engine.llm_engine, [torch.randint(1, 512, (length,)).tolist()])
    del engine
    gc.collect()
    cleanup_dist_env_and_memory()
    return made


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--write", type=Path)
    given.add_argument("--only", default="", help="a text that the names of rows hold")
    options = given.parse_args()
    torch.set_num_threads(1)
    facts = {
        "window": WINDOW,
        "sinks": SINKS,
        "block": BLOCK,
        "block_of_vllm": THEIRS,
        "chunk": CHUNK,
        "longest": LONGEST,
        "new": NEW,
    }
    results: dict[str, Any] = {"vllm": vllm.__version__, "torch": torch.__version__, **facts, "rows": {}}
    with tempfile.TemporaryDirectory() as folder:
        saved(Path(folder))
        for name in (each for each in ROWS if options.only in each):
            results["rows"][name] = row(name, Path(folder), [1024, LONGEST - NEW])
            print(name, json.dumps(results["rows"][name]), flush=True)
            if options.write is not None:  # also where a later row does not end
                options.write.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

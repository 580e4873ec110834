"""vLLM with patterns on a CPU, against transformers with dense masks: `python -m tests.served.compare [--only NAME]`.

Writes what became of each case, with `--write FILE`, and says so; ends with 1 if a token differs. All in one process,
but for the cases of two.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

import torch  # what is above is read by imports
import vllm
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory

import maskdsl
from maskdsl.integrations.vllm import VARIABLE, register
from tests.served.masks import DENSE, TEXT, Selects
from tests.served.models import LONGEST, made, next_tokens

MODULE = maskdsl.parse(TEXT)
LENGTHS = (5, 37, 150, 300, 64, 16, 17, 90)
"""Tokens of the prompts of a case."""
NEW = 24
SETTINGS: dict[str, dict[str, Any]] = {
    "whole": {"max_num_batched_tokens": 1024},
    "chunks": {"max_num_batched_tokens": 48},
    "prefix": {"enable_prefix_caching": True},
    "blocks of 32": {"block_size": 32, "max_num_batched_tokens": 100},
    "blocks of 128": {"block_size": 128, "max_num_batched_tokens": 100},
    "9 blocks": {"num_gpu_blocks_override": 10, "max_num_batched_tokens": 64},
    "33 blocks": {"num_gpu_blocks_override": 34, "max_num_batched_tokens": 64},
    "33 blocks, prefix": {"num_gpu_blocks_override": 34, "enable_prefix_caching": True},
    "compiled": {"enforce_eager": False},
    "two processes": {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"},
    "fp8": {"kv_cache_dtype": "fp8", "max_num_batched_tokens": 64},
    "fp8_e5m2": {"kv_cache_dtype": "fp8_e5m2", "max_num_batched_tokens": 64},
    "drafts": {
        "speculative_config": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 2},
        "max_num_batched_tokens": 64,
    },
}
"""What is given to vLLM."""
PREEMPTED = ("9 blocks", "33 blocks", "33 blocks, prefix")
"""Settings with so small a cache that vLLM has to take the pages of requests that run, and compute these anew."""
CACHES = {"fp8": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}
"""What keys and values are rounded to; others are float32."""


@dataclass(frozen=True)
class Case:
    """A model with patterns, and how vLLM is set."""

    pattern: str
    setting: str
    model: str = "llama"
    choice: Any = None
    """What is registered; None: the pattern of this name."""
    selects: dict[int | None, Selects] = field(default_factory=dict)
    """The dense masks by layer; none: that of the pattern for all."""

    @property
    def name(self) -> str:
        return f"{self.model}, {self.pattern}, {self.setting}"


def cases() -> list[Case]:
    names = ("kept", "window", "strided", "bigbird", "heads", "moba")
    by_kind = {"sliding_attention": MODULE["kept"], "full_attention": MODULE["strided"]}
    by_number = {0: MODULE["window"], 1: None}
    kept = ("whole", "prefix", "blocks of 32", "blocks of 128", "9 blocks", "compiled", "fp8", "fp8_e5m2")
    return [
        *(Case(name, "chunks") for name in names),
        Case("by kind", "chunks", "gpt_oss", by_kind, {0: DENSE["kept"], 1: DENSE["strided"]}),
        Case("by number", "chunks", "llama", by_number, {0: DENSE["window"], 1: DENSE["causal"]}),
        *(Case("kept", setting) for setting in kept),
        *(Case("moba", setting) for setting in ("prefix", "33 blocks", "33 blocks, prefix")),
        Case("strided", "33 blocks"),
        Case("kept", "chunks", "mistral"),
        *(Case(name, "two processes") for name in ("heads", "moba")),
        Case("kept", "drafts"),  # the last: vLLM makes no other engine in a process that has searched n-grams
    ]


def tokens_of(case: Case, folder: str, prompts: list[list[int]]) -> tuple[list[list[int]], dict[str, Any]]:
    """The tokens that vLLM appends to each prompt, and what is worth knowing of the run."""
    register(case.choice or MODULE[case.pattern])
    if "tensor_parallel_size" in SETTINGS[case.setting]:  # processes of vLLM read it
        file = Path(folder, "served.attn")
        file.write_text(TEXT)
        os.environ[VARIABLE] = f"{file}:{case.pattern}"
    options = {"block_size": 16, "enforce_eager": True, "enable_prefix_caching": False, **SETTINGS[case.setting]}
    given_always = {"skip_tokenizer_init": True, "dtype": "float32", "max_model_len": LONGEST, "seed": 0}
    engine = LLM(folder, disable_log_stats=False, **given_always, **options)
    given: list[Any] = [{"prompt_token_ids": each} for each in prompts]
    wanted = SamplingParams(temperature=0, max_tokens=NEW, detokenize=False, ignore_eos=True)
    if options["enable_prefix_caching"]:
        engine.generate(given[::2], wanted, use_tqdm=False)
    outputs = engine.generate(given, wanted, use_tqdm=False)
    os.environ.pop(VARIABLE, None)
    facts = {"cached": sum(each.num_cached_tokens or 0 for each in outputs)}
    facts["preempted"] = sum(each.metrics.num_preemptions for each in outputs)
    tokens = [list(each.outputs[0].token_ids) for each in outputs]
    del engine
    gc.collect()
    cleanup_dist_env_and_memory()
    return tokens, facts


def result_of(case: Case, model: Any, folder: str) -> dict[str, Any]:
    torch.manual_seed(1)
    is_shared = SETTINGS[case.setting].get("enable_prefix_caching", False)
    shared = torch.randint(1, 255, (max(LENGTHS),)).tolist() if is_shared else []
    prompts = list[list[int]]()
    for length in LENGTHS:
        first = shared[: length - 4]
        prompts.append([*first, *torch.randint(1, 255, (length - len(first),)).tolist()])
    began = time.perf_counter()
    tokens, facts = tokens_of(case, folder, prompts)
    seconds = time.perf_counter() - began
    selects = case.selects or {None: DENSE[case.pattern]}
    equal = 0
    for prompt, new in zip(prompts, tokens, strict=True):
        expected = next_tokens(model, [*prompt, *new], selects, CACHES.get(case.setting))[len(prompt) - 1 : -1]
        equal += expected == new
    assert case.setting not in PREEMPTED or facts["preempted"], f"no request was preempted: {case.name}"
    return {"case": case.name, "requests": len(prompts), "equal": equal, **facts, "seconds": round(seconds, 1)}


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("--only", default="", help="a text that the names of cases hold")
    given.add_argument("--write", type=Path)
    options = given.parse_args()
    versions = {"vllm": vllm.__version__, "torch": torch.__version__, "maskdsl": maskdsl.__version__}
    results, models = list[dict[str, Any]](), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        for case in (each for each in cases() if options.only in each.name):
            if case.model not in models:
                models[case.model] = made(case.model, Path(folder))
            results.append(result_of(case, *models[case.model]))
            print(json.dumps(results[-1]), flush=True)
            if options.write is not None:  # also where a later case does not end
                options.write.write_text(json.dumps({**versions, "tokens": NEW, "cases": results}, indent=1) + "\n")
    sys.exit(any(each["equal"] < each["requests"] for each in results))


if __name__ == "__main__":
    main()

"""What vLLM says of every step of a small run, for tests without it: `python -m tests.served.recorded FILE`."""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}

from vllm import LLM, SamplingParams  # what is above is read by imports

import maskdsl
from maskdsl.integrations import vllm, vllm_backend
from tests.served.masks import TEXT
from tests.served.models import made

PATTERN, LENGTH, BLOCK, BLOCKS = "kept", 128, 16, 12
LENGTHS, NEW = (5, 70, 38, 90), 20


def main(file: str) -> None:
    steps, running = list[dict[str, Any]](), list[Any]()
    build = vllm_backend.StepBuilder.build

    def recording(self: Any, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False) -> Any:
        given, count = common_attn_metadata, common_attn_metadata.num_reqs
        pages = -(-int(given.seq_lens[:count].max()) // BLOCK)
        steps.append(
            {
                "tokens": given.num_actual_tokens,
                "starts": given.query_start_loc.tolist(),
                "lengths": given.seq_lens.tolist(),
                "table": given.block_table_tensor[:, :pages].tolist(),
                "slots": given.slot_mapping.tolist(),
                "texts": [int(each.split("-")[0]) for each in running[0].req_ids[:count]] if running else [],
            }
        )
        return build(self, common_prefix_len, common_attn_metadata, fast_build)

    vllm_backend.StepBuilder.build = recording  # type: ignore[method-assign]
    vllm.register(maskdsl.parse(TEXT)[PATTERN])
    with tempfile.TemporaryDirectory() as folder:
        _, where = made("llama", Path(folder))
        engine = LLM(
            where,
            skip_tokenizer_init=True,
            dtype="float32",
            max_model_len=LENGTH,
            block_size=BLOCK,
            enforce_eager=True,
            enable_prefix_caching=False,
            max_num_batched_tokens=40,
            num_gpu_blocks_override=BLOCKS,
        )
        prompts: list[Any] = [{"prompt_token_ids": list(range(1, length + 1))} for length in LENGTHS]
        wanted = SamplingParams(temperature=0, max_tokens=NEW, detokenize=False, ignore_eos=True)
        steps.clear()  # those of warming up
        worker = engine.llm_engine.model_executor.driver_worker.worker
        running.append(worker.model_runner.input_batch)
        engine.generate(prompts, wanted, use_tqdm=False)
    facts = {"pattern": PATTERN, "length": LENGTH, "block": BLOCK, "blocks": BLOCKS, "steps": steps}
    Path(file).write_text(json.dumps(facts, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""Models of transformers whose heads several processes share, over gloo: patterns still know all of their heads."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.integrations.processes import WORLD

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no processes")
@pytest.mark.long
def test_tensor_parallel_models_have_the_heads_of_the_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 64}
    config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.integrations.processes", str(rank), str(tmp_path)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(WORLD)
    ]
    errors = [process.communicate(timeout=280)[1] for process in running]
    assert [process.returncode for process in running] == [0] * WORLD, "\n".join(errors)

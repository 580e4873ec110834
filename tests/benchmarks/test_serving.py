"""What vLLM did with patterns: the committed results of `make test-vllm` and of `benchmarks/serving.py`."""

import json
from pathlib import Path

from tests.served.masks import DENSE

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_vllm_gave_the_tokens_of_transformers() -> None:
    cases = json.loads((RESULTS / "vllm.json").read_text())["cases"]
    for each in cases:
        assert each["equal"] == each["requests"] == 8, each["case"]
    names = {each["case"] for each in cases}
    assert {f"llama, {pattern}, chunks" for pattern in DENSE.keys() - {"causal"}} < names
    assert {"gpt_oss, by kind, chunks", "llama, by number, chunks", "llama, kept, whole"} < names
    assert any(each["cached"] for each in cases)
    assert {f"llama, kept, {name}" for name in ("fp8", "fp8_e5m2", "drafts", "compiled")} < names
    assert {f"llama, {name}, two processes" for name in ("heads", "moba")} < names
    preempted = {each["case"] for each in cases if each["preempted"]}
    assert {"llama, kept, 9 blocks", "llama, moba, 33 blocks", "llama, moba, 33 blocks, prefix"} <= preempted


def test_pages_are_those_that_are_read() -> None:
    """While a sequence grows to 8,192 tokens: the window's, the sinks' and two more at most."""
    results = json.loads((RESULTS / "serving.json").read_text())
    assert (results["window"], results["block"], results["longest"]) == (256, 16, 8192)
    long = {name: row["8128"]["pages_while_decoding"] for name, row in results["rows"].items()}
    assert long["kept"] <= results["window"] // 16 + 1 + 2
    assert long["vLLM, causal"] * results["block_of_vllm"] == 8192

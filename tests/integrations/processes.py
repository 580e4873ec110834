"""What each of two processes does for `test_processes.py`: `python -m tests.integrations.processes RANK FOLDER`."""

import os
import sys

import torch
import torch.distributed as dist
from transformers import LlamaForCausalLM

import maskdsl
from maskdsl.integrations.transformers import register

WORLD = 2
TOKENS = 40
PATTERNS = """
pattern by_head(n) {
    space tokens[n]
    attend causal if head < heads // 2 else causal and backward(8)
}
pattern sloped(n) {
    space tokens[n]
    input slope: float[heads]
    attend causal
    score s - slope[head] * float(q - k)
}
"""


def main(rank: int, folder: str) -> None:
    """Logits and gradients of a model whose heads two processes share, beside those of one process."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    module = maskdsl.parse(PATTERNS)
    slope = torch.linspace(0.1, 0.4, 4)
    for name, inputs in (("by_head", {}), ("sloped", {"slope": slope})):
        register(name, module[name])
        whole = LlamaForCausalLM.from_pretrained(f"{folder}/model", attn_implementation=name)
        shared = LlamaForCausalLM.from_pretrained(f"{folder}/model", tp_plan="auto", attn_implementation=name)
        tokens = torch.arange(TOKENS)[None] % 60
        padding = torch.ones(1, TOKENS, dtype=torch.int64)
        padding[:, :5] = 0
        for mask in (None, padding):
            expected = whole(tokens, attention_mask=mask, **inputs).logits
            found = shared(tokens, attention_mask=mask, **inputs).logits
            rows = slice(None) if mask is None else slice(5, None)
            torch.testing.assert_close(found[:, rows], expected[:, rows], rtol=0, atol=1e-5)
        expected.square().sum().backward()
        found.square().sum().backward()
        for (name_of, one), (_, other) in zip(whole.named_parameters(), shared.named_parameters(), strict=True):
            grad = other.grad.full_tensor() if hasattr(other.grad, "full_tensor") else other.grad
            torch.testing.assert_close(grad, one.grad, rtol=1e-4, atol=1e-4, msg=lambda text, n=name_of: f"{n}: {text}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

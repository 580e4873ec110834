"""Tensors of more than 2 ** 31 elements: a million tokens of 32 heads, of which some are compared with float64.

In Triton's interpreter the same is done with few tokens.
"""

import pytest
import torch
from torch import Tensor

import maskdsl
from tests.gpu.tensors import DEVICE, REASON, RUNS, compare
from tests.support.awkward_lengths import EXAMPLES

pytestmark = pytest.mark.skipif(not RUNS, reason=REASON)

ON_GPU = DEVICE.type == "cuda"
TOKENS, WINDOW, HEADS, KEY_HEADS, DIM = (2**20, 1024, 32, 4, 128) if ON_GPU else (200, 32, 4, 2, 16)
DTYPE = torch.bfloat16 if ON_GPU else torch.float32
MEMORY = 75 * 2**30
"""Bytes that have to be free: queries, outputs and two gradients of 8 GiB each, and what the backward pass adds."""
GROUP = HEADS // KEY_HEADS


def test_offsets_past_32_bits() -> None:
    if ON_GPU and torch.cuda.mem_get_info()[0] < MEMORY:
        # Offsets past 2**31 need tensors of that many elements, which a smaller GPU cannot hold.
        pytest.skip(f"less than {MEMORY // 2**30} GiB are free")
    generator = torch.Generator(DEVICE).manual_seed(0)
    heads = HEADS, KEY_HEADS, KEY_HEADS, HEADS
    drawn = [torch.randn(1, each, TOKENS, DIM, dtype=DTYPE, device=DEVICE, generator=generator) for each in heads]
    tensors, toward = [x.requires_grad_() for x in drawn[:3]], drawn[3]
    assert tensors[0].numel() > 2**31 or not ON_GPU
    pattern = maskdsl.load(EXAMPLES / "language/sliding_window.attn")["sliding_window"]
    out = pattern.bind(n=TOKENS, size=WINDOW, heads=HEADS).compile("triton")(*tensors)
    gradients = torch.autograd.grad(out, tensors, toward)
    for key_head in (0, KEY_HEADS - 1):
        for key in (0, TOKENS // 2 - 1, TOKENS - WINDOW - 7, TOKENS - 1):
            compare_around(key_head, key, tensors, toward, out, gradients)


def compare_around(
    key_head: int, key: int, tensors: list[Tensor], toward: Tensor, out: Tensor, gradients: tuple[Tensor, ...]
) -> None:
    """The queries that see a key, with all keys that they see, in float64: their outputs, and whole gradients."""
    last, first = min(TOKENS, key + WINDOW), max(0, key - WINDOW + 1)
    heads, queries, keys = slice(key_head * GROUP, (key_head + 1) * GROUP), slice(key, last), slice(first, last)
    q = tensors[0][0, heads, queries].detach().double().requires_grad_()
    k, v = (x[0, key_head, keys].detach().double().requires_grad_() for x in tensors[1:])
    distance = torch.arange(key, last, device=DEVICE)[:, None] - torch.arange(first, last, device=DEVICE)
    hidden = (distance < 0) | (distance >= WINDOW)
    expected = (q @ k.mT * DIM**-0.5).masked_fill(hidden, -torch.inf).softmax(-1) @ v
    right = torch.autograd.grad(expected, (q, k, v), toward[0, heads, queries].double())
    compare("the output", out[0, heads, queries], expected, DTYPE)
    compare("the gradient of q", gradients[0][0, heads, queries], right[0], DTYPE, cancels=True)
    for name, given, each in zip("kv", gradients[1:], right[1:], strict=True):
        compare(f"the gradient of {name}", given[0, key_head, [key]], each[[key - first]], DTYPE, cancels=True)

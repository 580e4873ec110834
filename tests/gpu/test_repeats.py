"""The same bits from run to run, while the GPU has other work: no result depends on which program comes first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

import maskdsl
from tests.gpu.tensors import DEVICE, REASON, RUNS, given, surrounded
from tests.support.awkward_lengths import EXAMPLES, LARGE, SMALL, awkward

pytestmark = pytest.mark.skipif(not RUNS, reason=REASON)

LENGTHS, REPEATS = (LARGE, 20) if DEVICE.type == "cuda" else (SMALL, 3)
HALF = torch.bfloat16 if DEVICE.type == "cuda" else torch.float16
CASES = {
    "causal_dense": ("language/causal", HALF),
    "longformer": ("language/longformer", HALF),
    "packed": ("language/packed", HALF),
    "moba": ("routing/moba", HALF),
    "t5": ("language/t5", torch.float32),
    "alibi": ("language/alibi", torch.float32),
}


@contextmanager
def load() -> Iterator[Callable[[], object]]:
    """Gives a function that starts work beside ours, on a stream of its own."""
    if DEVICE.type != "cuda":
        yield lambda: None
        return
    stream = torch.cuda.Stream()
    one, other = torch.randn(2, 4096, 4096, device=DEVICE, dtype=torch.bfloat16)

    def start() -> None:
        with torch.cuda.stream(stream):
            for _ in range(4):
                torch.matmul(one, other)

    yield start
    torch.cuda.synchronize()


@pytest.mark.parametrize("name", CASES)
def test_runs_under_load_have_the_same_bits(name: str) -> None:
    """Output, log-sum-exp and all gradients, with batches and grouped heads."""
    file, dtype = CASES[name]
    mask = awkward(maskdsl.load(EXAMPLES / f"{file}.attn")[name], LENGTHS)
    inputs = given(mask, 2, 64)
    shapes = (2, mask.given_query_length), (1, mask.given_key_length), (1, mask.given_key_length)
    tensors = [surrounded((2, *shape, 64), dtype, seed) for seed, shape in enumerate(shapes)]
    leaves = [*tensors, *(x for x in inputs.values() if x.requires_grad)]
    toward = torch.ones_like(tensors[0])
    attention = mask.compile("triton")

    def run() -> list[torch.Tensor]:
        out, lse = attention(*tensors, return_lse=True, **inputs)
        return [out.detach(), lse.detach(), *torch.autograd.grad(out, leaves, toward)]

    first = run()
    with load() as start:
        for number in range(REPEATS):
            start()
            for one, other in zip(first, run(), strict=True):
                assert torch.equal(one, other), f"run {number + 1} differs"

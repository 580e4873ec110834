"""MoBA decoded token by token on a CPU, its block means kept from call to call: the same as one whole forward pass."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from torch import Tensor

import maskdsl

FILE = Path(__file__).parent / "routing" / "moba.attn"
LENGTH, BLOCK, HEADS, KEY_HEADS, HEAD_DIM = 32_768, 512, 4, 2, 64
CHUNK, DECODED = 2048, 32


@torch.no_grad()
def main() -> None:
    mask = maskdsl.load(FILE)["moba"].bind(n=LENGTH, block=BLOCK, top=3, heads=HEADS)
    attention = mask.compile("tiled")
    q = torch.randn(1, HEADS, LENGTH, HEAD_DIM)
    k, v = torch.randn(2, 1, KEY_HEADS, LENGTH, HEAD_DIM)
    whole = attention(q, k, v)
    state = attention.routing_state()
    prompt = LENGTH - DECODED
    worst = 0.0
    for start in range(0, prompt, CHUNK):
        end = min(start + CHUNK, prompt)
        lengths = torch.tensor([end])  # what the cache holds; the rest of it is not written yet
        out = attention(q[:, :, start:end], k, v, query_start=start, key_lengths=lengths, routing_state=state)
        worst = max(worst, difference(out, whole[:, :, start:end]))
    print(f"prompt of {prompt:,} tokens in chunks of {CHUNK:,}: at most {worst:.1e} from the whole")

    def step(position: int, **options: maskdsl.RoutingState) -> Tensor:
        here = q[:, :, position : position + 1]
        out = attention(here, k, v, query_start=position, key_lengths=torch.tensor([position + 1]), **options)
        assert isinstance(out, Tensor)
        return out

    positions = range(prompt, LENGTH)
    worst = max(
        difference(step(position, routing_state=state), whole[:, :, position : position + 1]) for position in positions
    )
    print(f"{DECODED} tokens one by one: at most {worst:.1e} from the whole")
    state.truncate(prompt)  # as if they had not come
    kept = seconds(lambda position: step(position, routing_state=state), positions)
    print(f"a token at {LENGTH:,}: {kept * 1e3:.1f} ms with the state, {seconds(step, positions) * 1e3:.1f} ms without")


def difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def seconds(step: Callable[[int], Tensor], positions: range) -> float:
    """The median of the steps."""
    times = []
    for position in positions:
        start = perf_counter()
        step(position)
        times.append(perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    main()

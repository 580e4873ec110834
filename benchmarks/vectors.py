"""Measures scores of products with tables of vectors on a CPU: `python benchmarks/vectors.py`.

Transformer-XL's scores in a window of 512: one pattern, on the tiled backend, beside SDPA with a bias of the same
numbers that is made before and not timed. Both sides are timed in turn."""

import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import maskdsl

RESULTS = Path(__file__).parent / "results" / "vectors.json"
TEXT = """
pattern transformer_xl(n, size) {
    space tokens[n]
    input u: float[heads, dim]
    input w: float[heads, dim]
    input r: float[heads, n, dim]
    attend causal and backward(size)
    score (dot(q + u[head], k) + dot(q + w[head], r[head, q - k])) / sqrt(dim)
}
"""
WINDOW, HEADS, DIM = 512, 8, 64
ROUNDS = 7


def tensors(n: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(0)
    tokens, heads = (1, HEADS, n, DIM), (HEADS, DIM)
    shapes = {"q": tokens, "k": tokens, "v": tokens, "u": heads, "w": heads, "r": (HEADS, n, DIM)}
    return {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}


def ready_bias(q: Tensor, w: Tensor, r: Tensor) -> Tensor:
    """[1, heads, n, n]: the position term, minus infinity outside of the window."""
    n = q.shape[2]
    apart = torch.arange(n)[:, None] - torch.arange(n)
    bias = ((q + w[:, None]) @ r.mT).gather(-1, apart.clamp(min=0).expand(1, HEADS, n, n)) * DIM**-0.5
    return bias.masked_fill_((apart < 0) | (apart >= WINDOW), -torch.inf)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def attention_of(n: int) -> maskdsl.Attention:
    """The pattern at n tokens, on the tiled backend."""
    return maskdsl.parse(TEXT)["transformer_xl"].bind(n=n, size=WINDOW, heads=HEADS).compile("tiled")


def peak() -> int:
    """The largest memory of the process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@torch.no_grad()
def alone(n: int) -> dict[str, float]:
    """The time at n tokens, and what the first call adds to the largest memory of the process so far."""
    given, attention, before = tensors(n), attention_of(n), peak()
    attention(**given)
    added = peak() - before
    times = [seconds(lambda: attention(**given)) for _ in range(3)]
    return {"tokens": n, "tiled_seconds": round(statistics.median(times), 3), "added_mib": round(added / 2**20)}


@torch.no_grad()
def in_turn(n: int) -> dict[str, float]:
    """Medians of both sides at n tokens; results are compared first."""
    given, attention = tensors(n), attention_of(n)
    q, k, v, u, w, r = given.values()
    bias = ready_bias(q, w, r)

    def dense() -> Tensor:
        return scaled_dot_product_attention(q + u[:, None], k, v, attn_mask=bias, scale=DIM**-0.5)

    torch.testing.assert_close(attention(**given), dense(), rtol=1e-3, atol=1e-4)
    pairs = [(seconds(lambda: attention(**given)), seconds(dense)) for _ in range(ROUNDS)]
    tiled, sdpa = (statistics.median(each) for each in zip(*pairs, strict=True))
    return {
        "tokens": n,
        "tiled_seconds": round(tiled, 3),
        "sdpa_seconds": round(sdpa, 3),
        "ratio": round(tiled / sdpa, 2),
    }


def main() -> None:
    torch.set_num_threads(2)
    setting = {"window": WINDOW, "heads": HEADS, "dim": DIM, "torch": torch.__version__, "machine": platform.machine()}
    rows = {"alone": [alone(n) for n in (4096, 8192, 16384)], "beside a ready bias": in_turn(4096)}
    RESULTS.write_text(json.dumps({"setting": setting, **rows}, indent=1) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

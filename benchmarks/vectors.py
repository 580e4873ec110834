"""Measures scores of products with tables of vectors on a CPU: `python benchmarks/vectors.py`.

Transformer-XL's scores in a window of 512: one pattern, on the tiled backend, beside SDPA with a bias of the same
numbers that is made before and not timed. Both sides are timed in turn. Memory is what the first call adds.
"""

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
ROUNDS = 9


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


def in_turn(n: int) -> dict[str, float]:
    """Medians of both sides at n tokens; results are compared first."""
    given = tensors(n)
    attention = maskdsl.parse(TEXT)["transformer_xl"].bind(n=n, size=WINDOW, heads=HEADS).compile("tiled")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        out = attention(**given)
        added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        q, k, v, u, w, r = given.values()
        row = {"tokens": n, "tiled_seconds": 0.0, "added_mib": round(added, 1)}
        if n > 4096:
            row["tiled_seconds"] = statistics.median(seconds(lambda: attention(**given)) for _ in range(3))
            return row
        bias = ready_bias(q, w, r)

        def dense() -> Tensor:
            return scaled_dot_product_attention(q + u[:, None], k, v, attn_mask=bias, scale=DIM**-0.5)

        torch.testing.assert_close(out, dense(), rtol=1e-3, atol=1e-4)
        pairs = [(seconds(lambda: attention(**given)), seconds(dense)) for _ in range(ROUNDS)]
        row["tiled_seconds"], row["sdpa_seconds"] = (statistics.median(each) for each in zip(*pairs, strict=True))
        row["ratio"] = round(row["tiled_seconds"] / row["sdpa_seconds"], 2)
    return row


def main() -> None:
    torch.set_num_threads(2)
    rows = [in_turn(n) for n in (4096, 8192, 16384)]
    setting = {"window": WINDOW, "heads": HEADS, "dim": DIM, "torch": torch.__version__, "machine": platform.machine()}
    RESULTS.write_text(json.dumps({"setting": setting, "rows": rows}, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()

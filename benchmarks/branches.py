"""NSA as one pattern with three branches, beside three patterns of one each: `python benchmarks/branches.py [--quick]`.

Prints a JSON object. Both sides give the same results, are called in turn, warm, on the same tensors. Times are
processor time, the least of several, in seconds, since other work on the machine only ever adds; ratios are those of
one pattern to three.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import maskdsl

TOGETHER = Path(__file__).parent / "words.attn"
APART = """
pattern compressed(n, block = 64) {
    space tokens[n]
    space means = mean(tokens, block)
    queries tokens
    keys means
    attend (k.means + 1) * block <= q + 1
}

pattern selected(n, block = 64, top = 8) {
    let blocks = (n - 1) // block + 1
    space tokens[n]
    input worth: float[batch, heads, tokens, blocks]
    coord chunk = i // block
    route picked = topk(top, worth[batch, head, q, k.chunk]) where k.chunk < q.chunk
    attend causal and (picked or same(chunk))
}

pattern window(n, size = 256) {
    space tokens[n]
    attend causal and backward(size)
}
"""


def sides(n: int, heads: int) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
    """One pattern, and three: both map q, k, v, gates and block scores to the output."""
    nsa = maskdsl.load(TOGETHER)["nsa"].bind(n=n, heads=heads).compile()
    module = maskdsl.parse(APART)
    three = [module[name].bind(n=n, heads=heads).compile() for name in ("compressed", "selected", "window")]

    def together(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, worth: Tensor) -> Tensor:
        return nsa(q, k, v, gate=gate, worth=worth)

    def apart(q: Tensor, k: Tensor, v: Tensor, gate: Tensor, worth: Tensor) -> Tensor:
        inputs: list[dict[str, Any]] = [{}, {"worth": worth}, {}]
        outs = [one(q, k, v, **given) for one, given in zip(three, inputs, strict=True)]
        return sum(gate[number, ..., None] * out for number, out in enumerate(outs))  # type: ignore[return-value]

    return together, apart


def in_turn(one: Callable[[], object], other: Callable[[], object], times: int) -> tuple[float, float]:
    """The processor time of the fastest call of each; which one is first changes from round to round."""
    taken: dict[Callable[[], object], list[float]] = {one: [], other: []}
    for number in range(times):
        for call in (one, other) if number % 2 else (other, one):
            began = time.process_time()
            call()
            taken[call].append(time.process_time() - began)
    return min(taken[one]), min(taken[other])


def measured(n: int, heads: int = 4, dim: int = 64, times: int = 12) -> dict[str, Any]:
    """The times of both sides, forward alone and forward with backward."""
    torch.manual_seed(0)
    leaves = [torch.randn(1, heads, n, dim, requires_grad=True) for _ in range(3)]
    leaves.append(torch.rand(3, 1, heads, n).requires_grad_())
    worth = torch.randn(1, heads, n, -(-n // 64))
    together, apart = sides(n, heads)

    def trained(side: Callable[..., Tensor]) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(side(*leaves, worth).square().sum(), leaves)

    def alone(side: Callable[..., Tensor]) -> Callable[[], Tensor]:
        return torch.no_grad()(lambda: side(*leaves, worth))

    for one, other in zip((alone(together)(), *trained(together)()), (alone(apart)(), *trained(apart)()), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    found: dict[str, Any] = {"tokens": n, "heads": heads, "dim": dim}
    for name, kind in (("forward", alone), ("both", trained)):
        one, three = in_turn(kind(together), kind(apart), times)
        found[name] = {"one_s": round(one, 4), "three_s": round(three, 4), "ratio": round(one / three, 3)}
    return found


def main(quick: bool) -> None:
    """Measures, prints, and keeps what is printed in `results/branches.json` unless it is `quick`."""
    torch.set_num_threads(1)
    lengths = [256] if quick else [1024, 2048]
    found = {"torch": torch.__version__, "runs": [measured(n, times=2 if quick else 12) for n in lengths]}
    if not quick:
        (Path(__file__).parent / "results" / "branches.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main("--quick" in sys.argv)

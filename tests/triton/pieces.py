"""Run in a process of its own, with TRITON_INTERPRET=1: rows of tiles in pieces, forward and backward.

Results are compared with those of the dense reference, in float64, and with those of a second call, bit by bit. What no
kernel writes is NaN. Every row is split, whatever its work, into one to three pieces. Prints "agreed", or raises.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

import maskdsl
from maskdsl.runtime.backends import programs

GLOBALS = "attend abs(q - k) < 9 or q < 3 or k == 5"
PATTERNS = {
    "globals": f"space t[70] {GLOBALS}",
    "sinks": f"space t[69] {GLOBALS} sink 0.5 sink 2.0",
    "empty rows": f"space t[70] {GLOBALS} require q < 20 or q > 45",
    "heads": "space t[67] attend abs(q - k) < 9 or q < 3 and head % 2 == 0 or k % 30 == 3 and head > 1",
    "large scores": f"space t[67] {GLOBALS} score s * 5.0",
    "factor": f"space t[67] {GLOBALS} weight 0.5 + float(q % 4)",
    "batch": "space t[67] attend abs(q - k) < 9 or q < 3 and batch == 1 or k % 30 == 3 and batch == 0",
    "order": "space t[67] attend abs(q - k) < 9 or q % 30 == 1 order by i % 7",
    "cross": "space a[35] space b[70] queries a keys b attend abs(2 * q.i - k.i) < 9 or q.i < 3",
}
new_empty = torch.Tensor.new_empty


def poisoned(self: Tensor, *sizes: Any, **options: Any) -> Tensor:
    tensor = new_empty(self, *sizes, **options)
    return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor


def results(attention: Any, tensors: list[Tensor], toward: list[Tensor]) -> list[Tensor]:
    """Output, log-sum-exp and the three gradients, also through the log-sum-exp of queries that have keys."""
    leaves = [each.detach().requires_grad_() for each in tensors]
    out, lse = attention(*leaves, return_lse=True)
    loss = (out * toward[0]).sum() + (torch.where(lse.isfinite(), lse, 0.0) * toward[1]).sum()
    return [out.detach(), lse.detach(), *torch.autograd.grad(loss, leaves)]


def check(name: str, key_heads: int) -> None:
    mask = maskdsl.parse(f"pattern p() {{ {PATTERNS[name]} }}")["p"].bind(heads=4)
    queries, keys, batch = mask.query_length, mask.key_length, 2 if name == "batch" else 1
    shapes = (
        (batch, 4, queries, 16),
        (batch, key_heads, keys, 16),
        (batch, key_heads, keys, 24),
        (batch, 4, queries, 24),
        (batch, 4, queries),
    )
    *tensors, toward_out, toward_lse = (torch.randn(shape) for shape in shapes)
    toward = [toward_out, toward_lse]
    found, again = (results(mask.compile("triton"), tensors, toward) for _ in range(2))
    assert all(map(torch.equal, found, again)), f"{name}: other bits"
    wide = [each.double() for each in tensors], [each.double() for each in toward]
    for each, expected in zip(found, results(mask.compile("reference"), *wide), strict=True):
        torch.testing.assert_close(each.double(), expected, rtol=2e-5, atol=2e-5, msg=name)


def main() -> None:
    torch.manual_seed(0)
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    split, made = programs._split, []
    programs.piece_counts = lambda work, processors: 1 + np.arange(len(work)) % 3
    programs._split = lambda *arguments: made.append(split(*arguments)) or made[-1]  # type: ignore[func-returns-value]
    for number, name in enumerate(PATTERNS):
        check(name, (2, 4, 1)[number % 3])
    assert len(made) > 2 * len(PATTERNS), "forward, and most gradients"
    print("agreed")


if __name__ == "__main__":
    main()

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


def check(name: str, heads: int, key_heads: int, batch: int) -> None:
    mask = maskdsl.parse(f"pattern p() {{ {PATTERNS[name]} }}")["p"].bind(heads=heads)
    queries, keys = mask.query_length, mask.key_length
    shapes = (
        (batch, heads, queries, 16),
        (batch, key_heads, keys, 16),
        (batch, key_heads, keys, 24),
        (batch, heads, queries, 24),
        (batch, heads, queries),
    )
    *tensors, toward_out, toward_lse = (torch.randn(shape) for shape in shapes)
    toward = [toward_out, toward_lse]
    found, again = (results(mask.compile("triton"), tensors, toward) for _ in range(2))
    assert all(map(torch.equal, found, again)), f"{name}: other bits"
    wide = [each.double() for each in tensors], [each.double() for each in toward]
    for each, expected in zip(found, results(mask.compile("reference"), *wide), strict=True):
        torch.testing.assert_close(each.double(), expected, rtol=2e-5, atol=2e-5, msg=name)


def check_batches() -> None:
    """A batch has the bits of its entries alone, wherever heavy programs end, by a list for each power of two."""
    tensors = [torch.randn(shape) for shape in ((3, 2, 70, 16), (3, 1, 70, 16), (3, 1, 70, 24))]
    toward = [torch.randn(3, 2, 70, 24), torch.randn(3, 2, 70)]
    ordered = programs.heavy_first
    for most_heavy in (3, 0):
        listed: list[int] = []

        def order(work: Any, processors: int, entries: int = 1, most: int = most_heavy, seen: Any = listed) -> Any:
            seen.append(entries)
            return ordered(work, processors, entries)[0], min(most, len(work))

        programs.heavy_first = order
        name = f"most_{most_heavy}"
        attention = maskdsl.parse(f"pattern {name}() {{ {PATTERNS['globals']} }}")[name].bind(heads=2).compile("triton")
        alone = [results(attention, *([x[e : e + 1] for x in each] for each in (tensors, toward))) for e in range(3)]
        for batch in (2, 3):
            together = results(attention, *([x[:batch] for x in each] for each in (tensors, toward)))
            for found, expected in zip(together, zip(*alone[:batch], strict=True), strict=True):
                assert torch.equal(found, torch.cat(expected)), f"batch {batch}, {most_heavy} heavy programs"
        assert sorted(listed) == [1, 1, 1, 2, 2, 2], "of each kernel"
    programs.heavy_first = ordered


def main() -> None:
    torch.manual_seed(0)
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    split, made = programs._split, []
    programs.piece_counts = lambda work, *_: 1 + np.arange(len(work)) % 3
    programs._split = lambda *arguments: made.append(split(*arguments)) or made[-1]  # type: ignore[func-returns-value]
    for number, name in enumerate(PATTERNS):
        heads = 4 if name in ("globals", "heads") else 2
        check(name, heads, heads // (2, 1)[number % 2], 2 if name in ("globals", "batch") else 1)
    assert len(made) > 2 * len(PATTERNS), "forward, and most gradients"
    check_batches()
    print("agreed")


if __name__ == "__main__":
    main()

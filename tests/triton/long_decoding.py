"""Run in a process of its own, with TRITON_INTERPRET=1: decoding with more blocks of keys than one list has bits.

Each entry has its own length, starts are tensors, and all memory that is not written or not attended is NaN. With
`whole` every pattern has both shapes, else they take turns. Prints how many calls agreed with sums in float64.
"""

import sys

import numpy as np
import torch
from torch import Tensor

import maskdsl
from tests.triton.decoding import paged, with_stale_pages
from tests.triton.interpreted import poisoned

N = 1501
PATTERNS = maskdsl.parse(
    """
    pattern globals(n) { space t[n]  attend (window(33) or k < 2) and causal }
    pattern documents(n) { space t[n]  input document: int[batch, t]  attend same(document) and causal }
    pattern clusters(n) { space t[n]  input cluster: int[batch, heads, t]  attend same(cluster) }
    pattern window(n) { space t[n]  attend window(301) and causal }
    """
)
STARTS = {1: (0, 700, N - 1), 3: (1, 1022, N - 3)}
"""The first query of each entry, by the number of queries."""


def expected(q: Tensor, k: Tensor, v: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the log-sum-exp by definition, in float64."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.double().repeat_interleave(group, dim=1) for x in (k, v))
    s = (q.double() @ k.transpose(2, 3) * q.shape[3] ** -0.5).masked_fill(~pairs, -torch.inf)
    return torch.nan_to_num(s.softmax(dim=3)) @ v, s.logsumexp(dim=3)


def calls(name: str, key_heads: int, batch: int) -> int:
    """The calls of a pattern that agreed."""
    mask = PATTERNS[name].bind(heads=4, n=N)
    attention = mask.compile("triton")
    k, v = (torch.randn(batch, key_heads, N, 16) for _ in range(2))
    pages, table = paged((k, v))
    runs = torch.arange(N) // 400
    inputs = {
        "documents": {"document": torch.stack([runs, 0 * runs, torch.arange(N) // 7])[:batch]},
        "clusters": {"cluster": torch.randint(0, 40, (batch, 4, N // 20 + 1)).repeat_interleave(20, dim=2)[..., :N]},
    }.get(name, {})
    arrays = {each: x.numpy() for each, x in inputs.items()}
    heads = [[mask.dense(head, entry, **arrays) for head in range(4)] for entry in range(batch)]
    pairs, agreed = torch.as_tensor(np.array(heads)), 0
    for count, starts in STARTS.items():
        start = torch.tensor(starts[:batch])
        lengths = start + count
        rows = pairs.take_along_dim((start[:, None] + torch.arange(count))[:, None, :, None], dim=2)
        rows = rows & (torch.arange(N) < lengths[:, None])[:, None, None]
        q = torch.randn(batch, 4, count, 16)
        stale = with_stale_pages(table, rows)
        where = {"query_start": start, "key_lengths": lengths, "return_lse": True, **inputs}
        for found in (attention(q, k, v, **where), attention(q, *pages, page_table=stale, **where)):
            for one, other in zip(found, expected(q, k, v, rows), strict=True):
                torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)
            agreed += 1
    return agreed


if __name__ == "__main__":
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    torch.manual_seed(0)
    shapes, whole = ((4, 3), (2, 1)), sys.argv[1:] == ["whole"]
    cases = [(name, shapes if whole else shapes[number % 2 :][:1]) for number, name in enumerate(PATTERNS)]
    print(sum(calls(name, *shape) for name, of_pattern in cases for shape in of_pattern))

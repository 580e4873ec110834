"""Patterns for several processes, what a call of each is given, and a count of the bytes that move."""

import contextlib
from collections.abc import Iterator
from unittest.mock import patch

import torch
import torch.distributed as dist

import maskdsl
from maskdsl import ShardScheme
from maskdsl.sharding import moved_rows

SCHEMES: list[ShardScheme | None] = [
    None,
    ShardScheme("zigzag"),
    ShardScheme("contiguous", travelling=True),
    ShardScheme("least loaded", 64, 2),
    ShardScheme("zigzag", groups=4, travelling=True),
    ShardScheme("zigzag", groups=2, travelling=True),
]

PATTERNS = """
pattern documents(n = 811) {
    space tokens[n]
    input document: int[batch, tokens]
    input bias: float[heads, tokens]
    attend same(document) and causal
    attend q < 3
    score s + k.bias + 0.1 * (q - k) * (head + 1)
}
pattern with_globals(n = 1100) {
    space tokens[n]
    attend window(60) or q < 3 or q == 700 or k < 3
}
pattern by_head(n = 640) {
    space tokens[n]
    attend backward(60 * (head + 1))
}
pattern plane(h = 24, w = 30) {
    space image[h = h, w = w]
    coord curve = hilbert(h, w)
    order by curve
    attend neighborhood((7, 7))
}
pattern with_sinks(n = 500) {
    space tokens[n]
    input sinks: float[heads]
    input gate: float[batch, tokens]
    attend causal and window(100)
    attend q == 3 or q == 333
    sink sinks[head]
    sink q.gate
    weight 1.0 + q.gate
}
pattern two(n = 500) {
    space tokens[n]
    input gate: float[batch, tokens]
    branch near {
        attend window(20)
        weight q.gate
    }
    branch far {
        attend causal and (q - k) % 7 == 0
        attend q < 2
        sink q.gate
        weight 1.0 - q.gate
    }
}
pattern routed(n = 512) {
    space tokens[n]
    coord chunk = i // 32
    route past = topk(3, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and same(chunk)
    attend past
}
pattern unnormalized(n = 400) {
    space tokens[n]
    attend causal and window(90)
    score sigmoid(s)
    normalize none
}
pattern across(n = 300, m = 410) {
    space text[n]
    space image[m]
    queries text
    keys image
    attend abs(q * 4 - k * 3) < 200 # allow: W001
}
"""
Difference = tuple[str, float, float, int, int]
Cases = dict[str, list[ShardScheme | None]]


def inputs_of(mask: maskdsl.Mask, heads: int) -> dict[str, torch.Tensor]:
    given = {}
    for each in mask.inputs:
        sizes = {"batch": 2, "heads": heads, "tokens": mask.query_length}
        shape = [sizes[dimension.text] for dimension in each.dimensions]
        if each.name == "document":
            given[each.name] = torch.randint(0, 3, shape).sort(-1).values
        else:
            given[each.name] = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    return given


@contextlib.contextmanager
def counted() -> Iterator[list[int]]:
    """The bytes that this rank receives from others, forward."""
    received, started = [0], moved_rows._started

    def counting(x: torch.Tensor, sent: list[int], counts: list[int], group: dist.ProcessGroup) -> torch.Tensor:
        row = x[0].numel() * x.element_size() if len(x) else x.new_empty(x.shape[1:]).numel() * x.element_size()
        received[0] += row * (sum(counts) - counts[dist.get_rank(group)])
        return started(x, sent, counts, group)

    with patch.object(moved_rows, "_started", counting):
        yield received

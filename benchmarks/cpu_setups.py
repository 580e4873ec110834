"""What the cases of `cpu_cases.py` are made of: patterns, tensors, and what people write without maskdsl."""

from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Any

import cpu_rivals as rivals
import torch
from cpu_rivals import Compute, Pair, dense, folded
from torch import Tensor

import maskdsl
from maskdsl.api.bound_patterns import Mask

EXAMPLES = Path(__file__).parents[1] / "examples"
LAYERS = """
pattern window_layer(n, size) { space tokens[n] attend window(size) }
pattern by_head(n, step = 64) { space tokens[n] attend backward(step * (head + 1)) }
pattern share(n, block = 256) {
    space tokens[n]
    coord chunk = i // block
    route past = topp(0.5, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
}
pattern threshold(n, block = 256) {
    space tokens[n]
    coord chunk = i // block
    route past = above(0.0, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past or same(chunk))
}
"""
HEADS, SHARED = (8, 8), (32, 8)
"""Query heads and key heads."""


@dataclass(frozen=True, eq=False)
class Setup:
    """A case made ready."""

    mask: Mask
    tensors: tuple[Tensor, Tensor, Tensor]
    rivals: dict[str, Compute]
    inputs: dict[str, Any] = field(default_factory=dict)
    """What our calls get beside q, k and v."""
    varlen: bool = False
    stateful: bool = False
    """Whether our calls keep a routing state."""
    others: tuple[str, ...] = ()
    """Rivals that compute something else: attention to all keys, beside what selects some."""
    sample: tuple[Tensor, Compute] | None = None
    """Some queries, and what computes their result."""


def example(file: str, name: str, **sizes: Any) -> Mask:
    return maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(**sizes)


def layer(name: str, **sizes: Any) -> Mask:
    return maskdsl.parse(LAYERS)[name].bind(**sizes)


def tensors(dtype: torch.dtype, n: int, heads: Pair = HEADS, dim: int = 64, keys: int = 0, batch: int = 1) -> Any:
    shapes = (heads[0], n), (heads[1], keys or n), (heads[1], keys or n)
    return tuple(torch.randn(batch, count, length, dim, dtype=dtype) for count, length in shapes)


def allowed(mask: Mask, **inputs: Any) -> Tensor:
    return torch.tensor(mask.dense(**inputs))


# Whole sequences


def causal(dtype: torch.dtype, n: int, heads: Pair = HEADS, dim: int = 64) -> Setup:
    mask = example("language/causal", "causal_dense", n=n)
    return Setup(mask, tensors(dtype, n, heads, dim), {"SDPA is_causal": dense(causal=True)})


def full(dtype: torch.dtype, n: int) -> Setup:
    return Setup(example("language/dense", "dense", n=n), tensors(dtype, n), {"SDPA": dense()})


def blocked(n: int, before: int, after: int, rows: tuple[int, ...]) -> dict[str, Compute]:
    """Short blocks are faster forward, longer ones backward."""
    return {f"blocked {each}": rivals.blocked(n, before, after, each) for each in rows}


def window(dtype: torch.dtype, n: int, size: int, rows: tuple[int, ...], heads: Pair = HEADS, dim: int = 64) -> Setup:
    mask = layer("window_layer", n=n, size=size)
    against = blocked(n, size // 2, size // 2, rows)
    if n <= 4096 and heads == HEADS:
        against["SDPA, mask"] = dense(allowed(mask))
    return Setup(mask, tensors(dtype, n, heads, dim), against)


def backward(dtype: torch.dtype, n: int, size: int, rows: tuple[int, ...]) -> Setup:
    mask = example("language/sliding_window", "sliding_window", n=n, size=size)
    against = blocked(n, size - 1, 0, rows) | {"SDPA, mask": dense(allowed(mask))}
    return Setup(mask, tensors(dtype, n, (2, 2)), against)


def by_head(dtype: torch.dtype, n: int, step: int, rows: int) -> Setup:
    mask = layer("by_head", n=n, step=step, heads=8)
    sizes = [step * (head + 1) for head in range(8)]
    each = [rivals.blocked(n, size - 1, 0, rows) for size in sizes]
    pairs = torch.stack([torch.tensor(mask.dense(head=head)) for head in range(8)])
    return Setup(mask, tensors(dtype, n), {"blocked": rivals.head_by_head(each), "SDPA, mask": dense(pairs)})


def packed(dtype: torch.dtype, n: int, document: int) -> Setup:
    ends = [*range(document, n, document), n]
    ids = torch.arange(n, dtype=torch.int32) // document
    mask = example("language/packed", "packed", n=n)
    return Setup(mask, tensors(dtype, n), {"loop": rivals.loop(ends)}, {"document": ids})


def masked(dtype: torch.dtype, file: str, name: str, **sizes: Any) -> Setup:
    """An example without inputs, whose pairs SDPA gets as a mask."""
    mask = example(file, name, **sizes)
    return Setup(mask, tensors(dtype, sizes["n"]), {"SDPA, mask": dense(allowed(mask))})


def neighborhood(dtype: torch.dtype, side: int, size: int, tile: Pair, laid_out: bool, heads: int) -> Setup:
    order = {"order": f"by y // {tile[0]}, x // {tile[1]}"} if laid_out else {}
    mask = example("vision/neighborhood", "na2", h=side, w=side, kernel=(size, size), **order)
    against = {f"tiles {tile[0]} x {tile[1]}": rivals.tiles(side, side, (size, size), tile, laid_out)}
    layout = {"layout": "ordered"} if laid_out else {}
    return Setup(mask, tensors(dtype, side * side, (heads, heads)), against, layout)


def swin(dtype: torch.dtype, side: int, size: int, shift: int, biased: bool) -> Setup:
    sizes = {"h": side, "w": side, "size": size, "shift": shift}
    given = tensors(dtype, side * side, dim=32)
    if not biased:
        mask = example("vision/swin", "swin", **sizes)
        return Setup(mask, given, {"std": rivals.swin(side, side, size, shift, None, dtype)})
    table = torch.randn(8, 2 * size - 1, 2 * size - 1)
    y, x = torch.arange(size * size) // size, torch.arange(size * size) % size
    bias = table[:, y[:, None] - y + size - 1, x[:, None] - x + size - 1]
    mask = example("vision/swin_bias", "swin_bias", **sizes, heads=8)
    return Setup(mask, given, {"std": rivals.swin(side, side, size, shift, bias, dtype)}, {"table": table})


def alibi(dtype: torch.dtype, n: int) -> Setup:
    slope = 2.0 ** -torch.arange(1, 9)
    behind = torch.arange(n)[:, None] - torch.arange(n)
    bias = (-slope[:, None, None] * behind).masked_fill(behind < 0, -torch.inf).to(dtype)[None]
    mask = example("language/alibi", "alibi", n=n, heads=8)
    return Setup(mask, tensors(dtype, n), {"SDPA, bias": dense(bias)}, {"slope": slope})


def t5(dtype: torch.dtype, n: int) -> Setup:
    table = torch.randn(8, 32)
    ahead = torch.arange(n) - torch.arange(n)[:, None]
    distance = ahead.abs()
    far = 8 + (torch.log(distance.clamp(min=1) / 8) / log(16) * 8).long().clamp(max=7)
    bias = table[:, torch.where(distance < 8, distance, far) + 16 * (ahead > 0)].to(dtype)[None]
    q, k, v = tensors(dtype, n)
    mask = example("language/t5", "t5", n=n, heads=8)
    return Setup(mask, (q / 8, k, v), {"SDPA, bias": dense(bias, scale=1.0)}, {"table": table})


def capped(dtype: torch.dtype, n: int, size: int) -> Setup:
    mask = example("language/gemma", "gemma2_layer", n=n, size=size)
    return Setup(mask, tensors(dtype, n), {"products and softmax": rivals.capped(allowed(mask), 50.0)})


# A few queries against cached keys


def decode(dtype: torch.dtype, n: int, size: int, queries: int, page: int, heads: Pair, dim: int) -> Setup:
    """The last queries of n tokens, causal, or in a window if it has a `size`; in pages, or in one run."""
    if size:
        mask = example("language/sliding_window", "sliding_window", n=n, size=size)
    else:
        mask = example("language/causal", "causal_dense", n=n)
    start = n - queries
    given = tensors(dtype, queries, heads, dim, n)
    inputs: dict[str, Any] = {"query_start": start, "key_lengths": n}
    first = max(0, start - size + 1) if size else 0
    pairs = allowed(mask)[start:, first:] if queries > 1 else None
    against = {"SDPA": dense(pairs)} | ({"SDPA, folded": folded(pairs)} if heads[0] > heads[1] else {})
    if not page:
        keys = slice(first, n)
        return Setup(mask, given, {name: rivals.of_keys(keys, each) for name, each in against.items()}, inputs)
    q, k, v = given
    table = torch.randperm(n // page)
    k, v = (x[0].unflatten(1, (-1, page)).transpose(0, 1)[table.argsort()].contiguous() for x in (k, v))
    inputs["page_table"] = table[None]
    pages, skipped = table[first // page :], first // page * page
    span = first - skipped, n - skipped
    return Setup(
        mask,
        (q, k, v),
        {f"pages, {name}": rivals.of_pages(pages, *span, each) for name, each in against.items()},
        inputs,
    )


def ragged(dtype: torch.dtype, lengths: Pair, heads: Pair, dim: int) -> Setup:
    """Eight entries with so many keys, from the first length to the second."""
    counts = torch.linspace(*lengths, 8).long()
    n = lengths[1]
    mask = example("language/causal", "causal_dense", n=n)
    pairs = (torch.arange(n) < counts[:, None])[:, None, None]
    against = {"SDPA, mask": dense(pairs), "loop": rivals.entry_by_entry(counts.tolist())}
    if heads[0] > heads[1]:
        against["SDPA, folded"] = folded(pairs)
    inputs = {"query_start": counts - 1, "key_lengths": counts}
    return Setup(mask, tensors(dtype, 1, heads, dim, n, 8), against, inputs)


def varlen(dtype: torch.dtype, lengths: Pair, heads: Pair, dim: int) -> Setup:
    ends = torch.linspace(*lengths, 8).long().cumsum(0)
    n = int(ends[-1])
    mask = example("language/causal", "causal_dense", n=n)
    rows = tuple(torch.randn(n, count, dim, dtype=dtype) for count in (heads[0], heads[1], heads[1]))
    against = {"loop": rivals.loop_of_rows(ends.tolist())}
    return Setup(
        mask, rows, against, {"cu_seqlens_q": torch.cat([torch.zeros(1, dtype=torch.long), ends])}, varlen=True
    )


# Routes


def routed(dtype: torch.dtype, file: str, name: str, n: int, heads: Pair, top: int = 0, block: int = 256) -> Setup:
    """Against attention to all keys; some queries are compared with SDPA over what is selected."""
    sizes = {"n": n, "block": block} | ({"top": top} if top else {}) | {"heads": heads[0], "key_heads": heads[1]}
    mask = example(file, name, **sizes) if file else layer(name, **sizes)
    given = tensors(dtype, n, heads)
    chunk, group = torch.arange(n) // block, heads[0] // heads[1]
    rows = torch.randperm(n)[:32]
    diagonal = chunk[rows][:, None] == chunk if name != "infllm" else torch.zeros(len(rows), n, dtype=torch.bool)
    ahead = torch.arange(n) > rows[:, None]

    def selected(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        (table,) = mask.compile()(q, k, v, return_routes=True)[1].values()
        pairs = (table[:, :, rows][..., chunk] | diagonal) & ~ahead
        some = pairs if pairs.shape[1] == heads[0] else pairs.repeat_interleave(group, 1)
        return dense(some)(q[:, :, rows], k, v)

    name = "SDPA is_causal"
    return Setup(mask, given, {name: dense(causal=True)}, others=(name,), sample=(rows, selected))


def stateful(dtype: torch.dtype, n: int, block: int, top: int) -> Setup:
    """One query; the state has summed the keys up."""
    mask = example("routing/moba", "moba", n=n, block=block, top=top, heads=8)
    inputs = {"query_start": n - 1, "key_lengths": n}

    def selected(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        means = k.unflatten(2, (-1, block)).mean(3)
        chosen = (q @ means.mT)[..., :-1].topk(top - 1).indices
        pairs = torch.zeros(1, 8, 1, n // block, dtype=torch.bool).scatter_(3, chosen, True)
        pairs[..., -1] = True
        return dense(pairs.repeat_interleave(block, 3))(q, k, v)

    given = tensors(dtype, 1, keys=n)
    sample = torch.zeros(1, dtype=torch.long), selected
    return Setup(mask, given, {"SDPA": dense()}, inputs, stateful=True, others=("SDPA",), sample=sample)


def nearest(dtype: torch.dtype, n: int, top: int) -> Setup:
    mask = example("routing/knn", "knn", n=n, top=top, heads=8)
    against = {"SDPA": dense(), "scores, topk, gather": rivals.nearest(top)}
    return Setup(mask, tensors(dtype, n), against, others=("SDPA",))

"""The cases of `cpu_contest.py`: what is computed on a CPU, and what people write for it without maskdsl."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
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
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FORWARD, BOTH = "forward", "forward + backward"
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


@dataclass(frozen=True)
class Case:
    name: str
    kind: str
    """Which bar it has."""
    make: Callable[..., Setup]
    sizes: dict[str, Any]
    flex: bool = False
    """Whether compiled FlexAttention takes part, in forward passes."""
    passes: tuple[str, ...] = (FORWARD, BOTH)
    dtypes: tuple[str, ...] = tuple(DTYPES)
    threads: bool = False
    """Whether it is also measured with two threads."""

    def setup(self, dtype: str, small: bool = False) -> Setup:
        torch.manual_seed(0)
        return self.make(DTYPES[dtype], **self.sizes | (SMALL[self.make] if small else {}))


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


WHOLE = partial(Case, kind="whole")
ONCE: dict[str, Any] = {"passes": (FORWARD,), "dtypes": ("float32",)}
GROUPED = {"heads": SHARED, "dim": 128}
KINDS_OF_HEADS = {"8/8 x 64": {"heads": HEADS, "dim": 64}, "32/8 x 128": GROUPED}

PATTERNS = [
    *(
        WHOLE(f"causal, {n:,}", make=causal, sizes={"n": n}, flex=n != 256, threads=n > 256)
        for n in (64, 256, 1024, 4096)
    ),
    WHOLE("causal, 1,024, 32/8 x 128", make=causal, sizes={"n": 1024} | GROUPED, flex=True),
    *(WHOLE(f"full, {n:,}", make=full, sizes={"n": n}) for n in (64, 1024, 4096)),
    WHOLE("window 129, 4,096", make=window, sizes={"n": 4096, "size": 129, "rows": (32, 64)}, flex=True),
    WHOLE("window 513, 4,096", make=window, sizes={"n": 4096, "size": 513, "rows": (64, 128)}, flex=True),
    WHOLE(
        "window 513, 4,096, 32/8 x 128",
        make=window,
        sizes={"n": 4096, "size": 513, "rows": (64, 128)} | GROUPED,
        flex=True,
    ),
    WHOLE(
        "window 513, 16,384", make=window, sizes={"n": 16384, "size": 513, "rows": (64, 128)}, flex=True, threads=True
    ),
    WHOLE(
        "backward 4,096, 8,192, 2 heads", make=backward, sizes={"n": 8192, "size": 4096, "rows": (256, 512)}, flex=True
    ),
    WHOLE("packed 300, 4,096", make=packed, sizes={"n": 4096, "document": 300}, flex=True),
    WHOLE("packed 1,600, 4,096", make=packed, sizes={"n": 4096, "document": 1600}, flex=True),
    WHOLE("packed 1,600, 16,384", make=packed, sizes={"n": 16384, "document": 1600}),
    WHOLE(
        "Longformer 512 + 1, 4,096",
        make=masked,
        sizes={"file": "language/longformer", "name": "longformer", "n": 4096},
        flex=True,
    ),
    WHOLE(
        "prefix-LM 512, 4,096",
        make=masked,
        sizes={"file": "language/prefix_lm", "name": "prefix_lm", "n": 4096},
        flex=True,
    ),
    WHOLE(
        "block-causal 32, 2,048",
        make=masked,
        sizes={"file": "language/block_causal", "name": "block_causal", "n": 2048},
        flex=True,
    ),
    WHOLE("windows 64 to 512 by head, 4,096", make=by_head, sizes={"n": 4096, "step": 64, "rows": 64}, flex=True),
    *(
        WHOLE(
            f"7 x 7 at 56 x 56, {'laid out 8 x 8' if laid_out else 'raster'}",
            make=neighborhood,
            sizes={"side": 56, "size": 7, "tile": (8, 8), "laid_out": laid_out, "heads": 8},
            flex=not laid_out,
        )
        for laid_out in (False, True)
    ),
    *(
        WHOLE(
            f"33 x 33 at 128 x 128, {'laid out 16 x 8' if laid_out else 'raster'}, 2 heads",
            make=neighborhood,
            sizes={"side": 128, "size": 33, "tile": (16, 8 if laid_out else 16), "laid_out": laid_out, "heads": 2},
            flex=not laid_out,
        )
        for laid_out in (False, True)
    ),
    *(
        WHOLE(
            f"Swin {size}, shift {shift}{', bias' if biased else ''}",
            make=swin,
            sizes={"side": 8 * size, "size": size, "shift": shift, "biased": biased},
            threads=biased,
        )
        for size, shift, biased in ((7, 0, False), (7, 3, False), (8, 4, False), (7, 3, True), (8, 4, True))
    ),
    WHOLE("ALiBi, 2,048", make=alibi, sizes={"n": 2048}, flex=True),
    WHOLE("T5 bias, 1,024", make=t5, sizes={"n": 1024}, flex=True),
    WHOLE("soft cap, window 1,024, 2,048", make=capped, sizes={"n": 2048, "size": 1024}, flex=True),
]
DECODE = [
    Case(
        f"{name}{', pages of 64' if page else ''}, {queries} at {n:,} keys, {heads}",
        "decode in a window" if size and queries < 512 else "decode",
        decode,
        {"n": n, "size": size, "queries": queries, "page": page} | sizes,
        **ONCE,
    )
    for heads, sizes in KINDS_OF_HEADS.items()
    for name, size, queries, page, n in (
        ("causal", 0, 1, 0, 8192),
        ("window 513", 513, 1, 0, 8192),
        ("causal", 0, 4, 0, 8192),
        ("window 513", 513, 4, 0, 8192),
        ("causal", 0, 1, 64, 8192),
        ("window 513", 513, 1, 64, 8192),
        ("causal", 0, 512, 0, 4096),
        ("window 513", 513, 512, 0, 4096),
    )
] + [
    Case(f"{name}, {heads}", "decode", make, {"lengths": lengths} | sizes, **ONCE)
    for heads, sizes in KINDS_OF_HEADS.items()
    for name, make, lengths in (
        ("causal, batch 8 of 1,024 to 2,048 keys", ragged, (1024, 2048)),
        ("causal, varlen 8 of 100 to 600", varlen, (100, 600)),
    )
]
ROUTES = [
    *(
        Case(f"{name}, 4,096, {heads[0]}/{heads[1]}", "routes", routed, sizes | {"n": 4096, "heads": heads}, **ONCE)
        for heads in (HEADS, SHARED)
        for name, sizes in (
            ("MoBA 256, top 3", {"file": "routing/moba", "name": "moba", "top": 3}),
            ("topp 0.5", {"file": "", "name": "share"}),
            ("above 0", {"file": "", "name": "threshold"}),
        )
    ),
    Case(
        "InfLLM v2, 8,192, 32/2",
        "infllm",
        routed,
        {"file": "routing/infllm", "name": "infllm", "n": 8192, "heads": (32, 2), "top": 16, "block": 64},
        **ONCE,
    ),
    Case("MoBA, 1 query at 65,536 keys", "stateful", stateful, {"n": 65536, "block": 512, "top": 3}, **ONCE),
    Case("knn 32, 8,192", "knn", nearest, {"n": 8192, "top": 32}, **ONCE),
]
HOST = [
    *(Case(f"host, causal {n}", "host", causal, {"n": n}, dtypes=("float32",)) for n in (16, 64, 128, 256)),
    Case(
        "host, 1 at 256 keys",
        "host",
        decode,
        {"n": 256, "size": 0, "queries": 1, "page": 0, "heads": HEADS, "dim": 64},
        **ONCE,
    ),
]
CASES = {case.name: case for case in (*HOST, *PATTERNS, *DECODE, *ROUTES)}
SMALL: dict[Callable[..., Setup], dict[str, Any]] = {
    causal: {"n": 48},
    full: {"n": 48},
    window: {"n": 64, "size": 17, "rows": (16, 32)},
    backward: {"n": 64, "size": 20, "rows": (16, 32)},
    by_head: {"n": 64, "step": 4, "rows": 16},
    packed: {"n": 64, "document": 20},
    masked: {"n": 64},
    neighborhood: {"side": 16, "size": 5, "tile": (4, 4)},
    swin: {"side": 12, "size": 4},
    alibi: {"n": 48},
    t5: {"n": 48},
    capped: {"n": 48, "size": 16},
    decode: {"n": 576},
    ragged: {"lengths": (20, 40)},
    varlen: {"lengths": (5, 20)},
    routed: {"n": 256, "block": 64},
    stateful: {"n": 256, "block": 32},
    nearest: {"n": 128, "top": 4},
}
"""Sizes at which all of it is checked in a moment."""

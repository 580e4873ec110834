"""The cases of `cpu_contest.py`, as data: each a function of `cpu_setups.py` at some sizes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from cpu_setups import (
    HEADS,
    SHARED,
    Setup,
    alibi,
    backward,
    by_head,
    capped,
    causal,
    decode,
    full,
    masked,
    nearest,
    neighborhood,
    packed,
    ragged,
    routed,
    stateful,
    swin,
    t5,
    varlen,
    window,
)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FORWARD, BOTH = "forward", "forward + backward"


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
        "InfLLM v2, 16,384, 32/2",
        "infllm",
        routed,
        {"file": "routing/infllm", "name": "infllm", "n": 16384, "heads": (32, 2), "top": 16, "block": 64},
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

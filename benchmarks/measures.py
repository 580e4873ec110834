"""What is measured, each in a process of its own: `python benchmarks/measures.py NAME [--quick]` prints a JSON object.

Both sides of a comparison run in one process, one after the other, warm, on the same inputs. Times are the best of
several, in seconds; `--quick` makes everything small, for the tests of the benchmark itself.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from settings import SETTINGS

import maskdsl
from maskdsl.ir.facts.route_candidates import selects
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs

EXAMPLES = Path(__file__).parents[1] / "examples"
WINDOW = "pattern window_layer(n, size = 513) { space tokens[n] attend window(size) }"
NEIGHBORS = "pattern neighbors(h, w) { space image[y = h, x = w] attend neighborhood((33, 33)) }"
ORDERS = {"row-major": "declared", "tiles": "by y // 16, x // 8", "Hilbert": "by hilbert(y, x)"}
DOCUMENT = 1600
"""About how many tokens a packed document has."""

Result = dict[str, Any]


def best(function: Callable[[], object], times: int = 5) -> float:
    """Seconds of the fastest call."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return min(taken)


def in_turn(one: Callable[[], object], other: Callable[[], object], times: int) -> tuple[float, float]:
    """The fastest call of each, called in turn, so that both meet the same noise."""
    pairs = [(best(one, 1), best(other, 1)) for _ in range(times)]
    return min(first for first, _ in pairs), min(second for _, second in pairs)


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def documents(n: int, size: int = DOCUMENT, seed: int = 0) -> np.ndarray:
    """The document of each token; one has about `size` tokens."""
    random = np.random.default_rng(seed)
    return np.cumsum(random.random(n) < 1 / size)


def tiles_window(quick: bool) -> Result:
    n = 2**14 if quick else 2**20
    mask = maskdsl.parse(WINDOW)["window_layer"].bind(n=n)
    before = peak()
    tiles = mask.tiles()
    return {"n": n, "seconds": best(mask.tiles), "peak": peak(), "before": before, "full": tiles.full_count()}


def tiles_against_flex(quick: bool) -> Result:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    n = 2**11 if quick else 2**15
    mask = maskdsl.parse(WINDOW)["window_layer"].bind(n=n)
    create = torch.compile(create_block_mask)

    def flex() -> Any:
        return create(lambda b, h, q, k: (q - k).abs() <= 256, 1, 1, n, n, device="cpu")

    found = flex()
    tiles = mask.tiles()
    assert tiles.full_count() == int(found.full_kv_num_blocks.sum())
    assert tiles.partial_count() == int(found.kv_num_blocks.sum())
    own, other = in_turn(mask.tiles, flex, 2 if quick else 7)
    return {"n": n, "seconds": own, "flex_seconds": other, "ratio": other / own}


def tiles_documents(quick: bool) -> Result:
    n = 2**14 if quick else 2**20
    mask = maskdsl.load(EXAMPLES / "language" / "packed.attn")["packed"].bind(n=n)
    document = documents(n)
    return {"n": n, "seconds": best(lambda: mask.tiles(document=document)), "peak": peak()}


def tiles_neighborhood(quick: bool) -> Result:
    side = 64 if quick else 512
    pattern = maskdsl.parse(NEIGHBORS)["neighbors"]
    found: Result = {"side": side}
    for name, order in ORDERS.items():
        found[name] = best(pattern.bind(h=side, w=side, order=order).tiles, 3)
    return found


def tiles_examples(quick: bool) -> Result:
    """Of every example at the largest setting of its paper: to bind it and to find its exact tiles, for 8 heads.

    But for those in which queries and keys decide.
    """
    found: Result = {}
    for name, parameters in SETTINGS.items():
        file, pattern = name.split(": ")
        declared = maskdsl.load(EXAMPLES / f"{file}.attn")[pattern]
        values = {} if quick else parameters
        mask = declared.bind(heads=8, **values)
        if selects(mask.ir):
            continue
        needed = relation_inputs(mask.ir)
        inputs = {key: each for key, each in synthetic_inputs(mask.ir, 0, 1).items() if key in needed}
        found[name] = best(lambda: declared.bind(heads=8, **values).tiles(**inputs), 3)  # noqa: B023
    return found


def tiles_growth(quick: bool) -> Result:
    small, large = (2**11, 2**14) if quick else (2**17, 2**20)
    window = maskdsl.parse(WINDOW)["window_layer"]
    packed = maskdsl.load(EXAMPLES / "language" / "packed.attn")["packed"]
    found: Result = {"from": small, "to": large}
    ids = {n: documents(n) for n in (small, large)}
    masks = {n: (window.bind(n=n), packed.bind(n=n)) for n in (small, large)}
    times = {
        "window": [best(masks[n][0].tiles, 15) for n in (small, large)],
        "documents": [best(lambda n=n: masks[n][1].tiles(document=ids[n]), 15) for n in (small, large)],
    }
    for name, (first, second) in times.items():
        found[name] = second / first
    return found


def forward_against_flex(quick: bool) -> Result:
    import torch
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    n = 2**11 if quick else 2**15
    mask = maskdsl.parse(WINDOW)["window_layer"].bind(n=n)
    attention = mask.compile()
    q, k, v = (torch.randn(1, 8, n, 64) for _ in range(3))
    block_mask = torch.compile(create_block_mask)(lambda b, h, q, k: (q - k).abs() <= 256, 1, 1, n, n, device="cpu")
    flex = torch.compile(flex_attention)
    with torch.no_grad():
        torch.testing.assert_close(attention(q, k, v), flex(q, k, v, block_mask=block_mask), rtol=1e-4, atol=1e-5)
        own, other = in_turn(
            lambda: attention(q, k, v), lambda: flex(q, k, v, block_mask=block_mask), 2 if quick else 20
        )
    matrix = torch.randn(2048, 2048)
    rate = 2 * 2048**3 / best(lambda: matrix @ matrix, 10)
    flops = 8 * mask.stats(block=(32, 32)).total.forward_flops
    return {
        "n": n,
        "seconds": own,
        "flex_seconds": other,
        "ratio": other / own,
        "matmul_share": flops / own / rate,
    }


def forward_against_sdpa(quick: bool) -> Result:
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    n = 2**10 if quick else 2**13
    mask = maskdsl.parse(WINDOW)["window_layer"].bind(n=n)
    attention = mask.compile()
    q, k, v = (torch.randn(1, 8, n, 64) for _ in range(3))
    allowed = torch.tensor(mask.dense())
    with torch.no_grad():
        torch.testing.assert_close(
            attention(q, k, v), scaled_dot_product_attention(q, k, v, attn_mask=allowed), rtol=1e-4, atol=1e-5
        )
        own, other = in_turn(
            lambda: attention(q, k, v), lambda: scaled_dot_product_attention(q, k, v, attn_mask=allowed), 3
        )
    return {"n": n, "seconds": own, "sdpa_seconds": other, "ratio": other / own}


def forward_backward(quick: bool) -> Result:
    import torch

    found: Result = {}
    for part, n in (("half", 2**11), ("whole", 2**12)) if quick else (("half", 2**16), ("whole", 2**17)):
        attention = maskdsl.parse(WINDOW)["window_layer"].bind(n=n).compile()
        q, k, v = (torch.randn(1, 4, n, 64, requires_grad=True) for _ in range(3))
        before = peak()
        began = time.perf_counter()
        attention(q, k, v).sum().backward()
        found |= {f"{part}_n": n, f"{part}_seconds": time.perf_counter() - began, f"{part}_added": peak() - before}
        found[f"{part}_peak"] = peak()
        assert q.grad is not None and bool(q.grad.isfinite().all())
        del q, k, v, attention
    return found


def moba(n: int) -> tuple[Any, list[Any]]:
    """The attention of MoBA's example, and random q, k and v."""
    import torch

    mask = maskdsl.load(EXAMPLES / "routing" / "moba.attn")["moba"].bind(n=n, block=512, top=3, heads=4)
    torch.manual_seed(0)
    return mask.compile("tiled"), list(torch.randn(3, 1, 4, n, 64))


def moba_against_sdpa(quick: bool) -> Result:
    from torch.nn.functional import scaled_dot_product_attention

    attention, tensors = moba(4096 if quick else 32_768)
    attention(*tensors)  # compiles
    ours, dense = in_turn(lambda: attention(*tensors), lambda: scaled_dot_product_attention(*tensors), 2)
    return {"seconds": ours, "dense_seconds": dense, "ratio": dense / ours}


def moba_selection(quick: bool) -> Result:
    from maskdsl.runtime.decode.regrouped import two_passes  # late: imports torch, which other measures are without
    from maskdsl.runtime.routing.find_op import with_routed

    attention, (q, k, v) = moba(4096 if quick else 32_768)
    found = with_routed(attention._compiled, q, k, [])
    passes = two_passes(attention._compiled)
    assert passes is not None
    passes.attend(q, k, v, found)  # compiles, and finds tiles
    select, attend = in_turn(
        lambda: with_routed(attention._compiled, q, k, []), lambda: passes.attend(q, k, v, found), 5
    )
    return {"select_seconds": select, "attend_seconds": attend, "share": select / attend}


def moba_memory(quick: bool) -> Result:
    found: Result = {}
    for part, n in (("half", 2**12), ("whole", 2**13)) if quick else (("half", 2**15), ("whole", 2**16)):
        attention, tensors = moba(n)
        leaves = [x.requires_grad_() for x in tensors]
        before = peak()
        attention(*leaves).sum().backward()
        found |= {f"{part}_n": n, f"{part}_added": peak() - before}
        del attention, tensors, leaves
    return found


def command_line(quick: bool) -> Result:
    """The slowest example of each command, from a process that starts anew; the first of all warms the disk."""
    files = sorted(EXAMPLES.rglob("*.attn"))[: 2 if quick else None]
    found: Result = {}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for command in ("show", "stats", "check"):
        slowest = 0.0
        for file in files:
            name = [] if command == "check" else [next(iter(maskdsl.load(file)))]
            line = [sys.executable, "-m", "maskdsl", command, str(file), *name]
            run = lambda line=line: subprocess.run(line, check=True, capture_output=True, env=environment)  # noqa: E731
            slowest = max(slowest, best(run, 3))
        found[command] = slowest
    return found


def first_run(quick: bool) -> Result:
    import torch

    n = 512 if quick else 4096
    q, k, v = (torch.randn(1, 4, n, 64) for _ in range(3))
    began = time.perf_counter()
    attention = maskdsl.load(EXAMPLES / "language" / "longformer.attn")["longformer"].bind(n=n).compile()
    attention(q, k, v)
    return {"n": n, "seconds": time.perf_counter() - began}


MEASURES = {
    function.__name__: function
    for function in (
        tiles_window,
        tiles_against_flex,
        tiles_documents,
        tiles_neighborhood,
        tiles_examples,
        tiles_growth,
        forward_against_flex,
        forward_against_sdpa,
        forward_backward,
        moba_against_sdpa,
        moba_selection,
        moba_memory,
        command_line,
        first_run,
    )
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]]("--quick" in sys.argv)))

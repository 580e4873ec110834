"""Steps of decoding over pages on a CPU, beside plain torch over them: `python benchmarks/paged.py [--quick]`.

`step` is a partial call, `prepared` one of `prepare_decode`, `layer` the forward of a layer in a serving engine.
Prints a JSON object. Times are processor time of one thread, the least of several, in seconds, since other work on the
machine only ever adds. Both sides are called in turn, warm, and give the same results. Plain torch takes the pages that
hold the window, with a mask, to `scaled_dot_product_attention`.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import maskdsl
from maskdsl import Heads
from maskdsl.integrations import Layer, LayerPatterns
from maskdsl.integrations.serving.pages import EngineStep, KeyPages
from maskdsl.integrations.serving.served_patterns import FULL, AskedOfLayer, Registered, ServedModel, ServedPatterns

WINDOW, PAGE, REQUESTS, HEADS, KEY_HEADS, DIM = 256, 16, 8, 8, 2, 64
PATTERN = maskdsl.parse("pattern window(n, size) { space t[n]  attend causal and backward(size) }")["window"]
SIDES = ("step", "prepared", "layer")
E4M3 = torch.float8_e4m3fn


def measured(sides: dict[str, Callable[[], Tensor]], times: int, calls: int) -> dict[str, float]:
    """Seconds of a call of each side."""
    least = dict.fromkeys(sides, float("inf"))
    for _ in range(times):
        for name, side in sides.items():
            side()
            began = time.process_time()
            for _ in range(calls):
                side()
            least[name] = min(least[name], (time.process_time() - began) / calls)
    return least


def plain(q: Tensor, k: Tensor, v: Tensor, table: Tensor, lengths: Tensor) -> Tensor:
    """Attention of the last token of each sequence over its window."""
    first = (lengths - 1 - WINDOW).clamp(min=0) // PAGE
    columns = first[:, None] + torch.arange(WINDOW // PAGE + 2)
    pages = table.gather(1, columns.clamp(max=table.shape[1] - 1)).long()
    keys, values = (x[pages].transpose(1, 2).flatten(2, 3) for x in (k, v))
    positions = (columns[:, :, None] * PAGE + torch.arange(PAGE)).flatten(1)
    attends = (positions < lengths[:, None]) & (positions >= lengths[:, None] - WINDOW)
    mask = attends[:, None, None]
    return torch.nn.functional.scaled_dot_product_attention(q, keys, values, mask, enable_gqa=True)


def pages_of(most: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values and the table of sequences of up to `most` keys, whose pages are shared, so that memory is small."""
    count = REQUESTS * 64
    k, v = torch.randn(2, count, KEY_HEADS, PAGE, DIM).to(dtype)
    return k, v, torch.randint(0, count, (REQUESTS, most // PAGE), dtype=torch.int32)


def layer_of(most: int) -> Callable[[Tensor, KeyPages, Tensor, Tensor], Tensor]:
    """The forward of a layer of a model for up to `most` keys: a token of each sequence, [sequences, heads, 1, dim]."""
    served = ServedPatterns(
        Registered(LayerPatterns("benchmark", PATTERN, {"size": WINDOW}), {}),
        ServedModel(most, (FULL,), Heads(HEADS, KEY_HEADS)),
    )
    layer = served.layer(Layer(0, FULL), Heads(HEADS, KEY_HEADS), AskedOfLayer())
    out = torch.empty(REQUESTS, HEADS, DIM)

    def forward(q: Tensor, pages: KeyPages, table: Tensor, lengths: Tensor) -> Tensor:
        step = EngineStep(REQUESTS, torch.arange(REQUESTS + 1), lengths, table, 1)
        layer.attend(q[:, :, 0], pages, step, out)
        return out[:, :, None]

    return forward


def results(quick: bool) -> dict[str, Any]:
    times, calls = (1, 1) if quick else (5, 50)
    short, long = (256, 512) if quick else (1024, 65536)
    attention = PATTERN.bind(n=long, size=WINDOW, heads=HEADS).compile()
    layer, made = layer_of(long), dict[str, Any](keys=[short, long])
    q, sides = torch.randn(REQUESTS, HEADS, 1, DIM), dict[str, Callable[[], Tensor]]()
    for keys in (short, long):
        k, v, table = pages_of(keys, torch.float32)
        lengths = keys - torch.arange(REQUESTS) * 9
        where = {"query_start": lengths - 1, "key_lengths": lengths, "page_table": table}
        torch.testing.assert_close(attention(q, k, v, **where), plain(q, k, v, table, lengths))
        sides[f"step_{keys}"] = lambda k=k, v=v, where=where: attention(q, k, v, **where)
        prepared = attention.prepare_decode(q, k, v, key_lengths=lengths, page_table=table)
        sides[f"prepared_{keys}"] = prepared
        on_pages = (KeyPages(k, v), table, lengths.int())
        torch.testing.assert_close(layer(q, *on_pages), plain(q, k, v, table, lengths))
        sides[f"layer_{keys}"] = lambda on_pages=on_pages: layer(q, *on_pages)
        sides[f"plain_{keys}"] = lambda k=k, v=v, table=table, lengths=lengths: plain(q, k, v, table, lengths)
    made["seconds"] = measured(sides, times, calls)
    seconds = made["seconds"]
    made["long_to_short"] = {side: seconds[f"{side}_{long}"] / seconds[f"{side}_{short}"] for side in SIDES}
    made["to_plain"] = {side: seconds[f"{side}_{short}"] / seconds[f"plain_{short}"] for side in SIDES}
    k, v, table = pages_of(short, E4M3)
    lengths = torch.full((REQUESTS,), short)
    where = {"query_start": lengths - 1, "key_lengths": lengths, "page_table": table}
    scales = {"key_scale": torch.rand(KEY_HEADS), "value_scale": torch.rand(KEY_HEADS)}
    wide = (x.float() * scale[:, None, None] for x, scale in zip((k, v), scales.values(), strict=True))
    difference = attention(q, k, v, **where, **scales) - attention(q, *wide, **where)
    made["float8_difference"] = float(difference.abs().max())
    return made


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(json.dumps(results("--quick" in sys.argv), indent=1))

"""The patterns that are measured on a GPU: the example of each, and the same pattern written for FlexAttention.

Both read the same tensors, which are in the order that our pattern lays tokens out in: `mask_mod` and `score_mod` are
given places in that order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

import torch
from measures import DOCUMENT, documents
from torch import Tensor

import maskdsl

EXAMPLES = Path(__file__).parents[2] / "examples"
SIDES = {256: (16, 16), 4096: (64, 64), 16384: (128, 128), 131072: (512, 256)}
"""Height and width of an image of as many tokens."""
TILE = 16, 8
"""Height and width of the tiles in which images are laid out: 128 tokens."""
SINKS, GLOBALS, DILATION, KERNEL, SWIN, SHIFT, CAP = 4, 16, 2, 13, 8, 4, 50.0
BUCKETS, FARTHEST = 32, 128

Inputs = dict[str, Tensor]
Mod = Callable[..., Tensor]


@dataclass(frozen=True)
class Size:
    """What a pattern is measured at."""

    length: int
    heads: int
    device: torch.device

    @property
    def sides(self) -> tuple[int, int]:
        return SIDES[self.length]

    @property
    def window(self) -> int:
        """1,024 tokens where there are enough of them."""
        return min(1024, self.length // 4)


def nothing(size: Size, *rest: object) -> Any:
    return {}


def no_mod(size: Size, inputs: Inputs) -> None:
    return None


@dataclass(frozen=True)
class Entry:
    """One pattern: ours, and FlexAttention's."""

    name: str
    file: str
    pattern: str
    mask_mod: Callable[[Size, Inputs], Mod | None]
    score_mod: Callable[[Size, Inputs], Mod | None] = no_mod
    parameters: Callable[[Size], dict[str, Any]] = nothing
    inputs: Callable[[Size], Inputs] = nothing
    order: Callable[[Size], str] | None = None
    scale: float | None = None
    is_causal: bool | None = None
    """Where torch's `scaled_dot_product_attention` has the pattern: its argument of this name."""
    is_image: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Goes to other processes by its name: functions without one could not."""
        return named, (self.name,)

    def mask(self, size: Size, heads: int | None = None) -> maskdsl.Mask:
        """Ours, for as many heads as the size says or as given."""
        lengths = dict(zip("hw", size.sides, strict=True)) if self.is_image else {"n": size.length}
        order = None if self.order is None else self.order(size)
        pattern = maskdsl.load(EXAMPLES / self.file)[self.pattern]
        return pattern.bind(heads=heads or size.heads, order=order, **lengths, **self.parameters(size))


# One line of text


def causal(size: Size, inputs: Inputs) -> Mod:
    return lambda b, h, q, k: k <= q


def backward(size: Size, inputs: Inputs) -> Mod:
    window = size.window
    return lambda b, h, q, k: (k <= q) & (q - k < window)


def streaming(size: Size, inputs: Inputs) -> Mod:
    window = size.window
    return lambda b, h, q, k: (k <= q) & ((q - k < window) | (k < SINKS))


def packed(size: Size, inputs: Inputs) -> Mod:
    document = inputs["document"]
    return lambda b, h, q, k: (k <= q) & (document[q] == document[k])


def longformer(size: Size, inputs: Inputs) -> Mod:
    reach = size.window // 2
    return lambda b, h, q, k: ((q - k).abs() <= reach) | (q < GLOBALS) | (k < GLOBALS)


def dilated(size: Size, inputs: Inputs) -> Mod:
    reach = size.window // 2
    return lambda b, h, q, k: ((q - k).abs() <= reach) & ((q - k) % DILATION == 0)


def band(size: Size, inputs: Inputs) -> Mod:
    reach = size.window // 2
    return lambda b, h, q, k: (q - k).abs() <= reach


def four_windows(size: Size, inputs: Inputs) -> Mod:
    window = 4 * size.window
    return lambda b, h, q, k: (k <= q) & (q - k < window)


# Images, laid out in tiles


def neighborhood(size: Size, inputs: Inputs) -> Mod:
    """The window moves inward at the borders."""
    (height, width), (tile_height, tile_width), reach = size.sides, TILE, KERNEL // 2
    columns = width // tile_width

    def cell(position: Tensor) -> tuple[Tensor, Tensor]:
        tile, inside = position // (tile_height * tile_width), position % (tile_height * tile_width)
        y = tile // columns * tile_height + inside // tile_width
        return y, tile % columns * tile_width + inside % tile_width

    def mask_mod(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        (query_y, query_x), (key_y, key_x) = cell(q), cell(k)
        center_y = query_y.clamp(reach, height - 1 - reach)
        center_x = query_x.clamp(reach, width - 1 - reach)
        return ((center_y - key_y).abs() <= reach) & ((center_x - key_x).abs() <= reach)

    return mask_mod


def swin(size: Size, inputs: Inputs) -> Mod:
    """Windows one behind the other; in those of the last row and column, two sides keep apart."""
    height, width = size.sides
    columns = width // SWIN

    def side(position: Tensor) -> Tensor:
        """0 to 3: whether a token is above and left of the borders. Numbers, as Inductor compares no booleans."""
        window, inside = position // SWIN**2, position % SWIN**2
        y = (window // columns * SWIN + inside // SWIN + SHIFT) % height
        x = (window % columns * SWIN + inside % SWIN + SHIFT) % width
        return 2 * (y < SHIFT).int() + (x < SHIFT).int()

    return lambda b, h, q, k: (q // SWIN**2 == k // SWIN**2) & (side(q) == side(k))


def in_tiles(size: Size) -> str:
    return f"by y // {TILE[0]}, x // {TILE[1]}"


def in_windows(size: Size) -> str:
    height, width = size.sides
    rolled_y, rolled_x = f"(y - {SHIFT}) % {height}", f"(x - {SHIFT}) % {width}"
    return f"by {rolled_y} // {SWIN}, {rolled_x} // {SWIN}, {rolled_y}, {rolled_x}"


# Scores


def alibi(size: Size, inputs: Inputs) -> Mod:
    slope = inputs["slope"]
    return lambda s, b, h, q, k: s - slope[h] * (q - k)


def soft_cap(size: Size, inputs: Inputs) -> Mod:
    return lambda s, b, h, q, k: CAP * torch.tanh(s / CAP)


def t5(size: Size, inputs: Inputs) -> Mod:
    """The table by distance instead of by bucket, so that one read finds it."""
    distances = range(-FARTHEST, FARTHEST + 1)
    biases = inputs["table"][:, [t5_bucket(distance) for distance in distances]]
    return lambda s, b, h, q, k: s + biases[h, (k - q).clamp(-FARTHEST, FARTHEST) + FARTHEST]


def t5_bucket(relative: int) -> int:
    """T5's bucket of a distance: half for each sign, exact up to a quarter of all, then logarithmic."""
    half, exact = BUCKETS // 2, BUCKETS // 4
    first, away = half * (relative > 0), abs(relative)
    if away < exact:
        return first + away
    step = int(log(away / exact) / log(FARTHEST / exact) * (half - exact) + 1e-9)
    return first + min(exact + step, half - 1)


def slopes(size: Size) -> Inputs:
    steps = torch.arange(1, size.heads + 1, device=size.device)
    return {"slope": torch.exp2(-8.0 * steps / size.heads)}


def table(size: Size) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    return {"table": torch.randn(size.heads, BUCKETS, generator=generator).to(size.device)}


def document(size: Size) -> Inputs:
    return {"document": torch.as_tensor(documents(size.length, min(DOCUMENT, size.length // 4)), device=size.device)}


def of_window(size: Size) -> dict[str, int]:
    return {"size": size.window}


ENTRIES = [
    Entry("dense", "language/dense.attn", "dense", no_mod, is_causal=False),
    Entry("causal", "language/causal.attn", "causal_dense", causal, is_causal=True),
    Entry("window 1,024", "language/sliding_window.attn", "sliding_window", backward, parameters=of_window),
    Entry(
        *("window and sinks", "language/streaming.attn", "streaming", streaming),
        parameters=lambda size: {"size": size.window, "sinks": SINKS},
    ),
    Entry("packed documents", "language/packed.attn", "packed", packed, inputs=document),
    Entry(
        *("Longformer", "language/longformer.attn", "longformer", longformer),
        parameters=lambda size: {"size": size.window, "globals": GLOBALS},
    ),
    Entry(
        *("dilated window", "language/dilated_window.attn", "dilated_window", dilated),
        parameters=lambda size: {"size": size.window // DILATION, "dilation": DILATION},
    ),
    Entry(
        *("neighbourhood 13 x 13", "vision/neighborhood.attn", "na2", neighborhood),
        parameters=lambda size: {"kernel": (KERNEL, KERNEL)},
        order=in_tiles,
        is_image=True,
    ),
    Entry(
        *("Swin", "vision/swin.attn", "swin", swin),
        parameters=lambda size: {"size": SWIN, "shift": SHIFT},
        order=in_windows,
        is_image=True,
    ),
    Entry(
        *("Hilbert window", "vision/hilbert_window.attn", "hilbert_window", band), parameters=of_window, is_image=True
    ),
    Entry("ALiBi", "language/alibi.attn", "alibi", causal, alibi, inputs=slopes),
    Entry(
        *("soft cap", "language/gemma.attn", "gemma2_layer", four_windows, soft_cap),
        parameters=lambda size: {"size": 4 * size.window, "cap": CAP},
    ),
    Entry("T5 table", "language/t5.attn", "t5", no_mod, t5, inputs=table, scale=1.0),
]


def named(name: str) -> Entry:
    return next(entry for entry in ENTRIES if entry.name == name)

"""The compiler from end to end, on a CPU: a pattern read, drawn, mapped, compiled, computed and checked."""

from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from rich import box
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from torch.nn.functional import scaled_dot_product_attention

import maskdsl
from maskdsl.api import Mask
from maskdsl.cli.stages import STAGES
from maskdsl.view import units
from maskdsl.view.cells import fit
from maskdsl.view.head_figures import Counted
from maskdsl.view.labels import Labels
from maskdsl.view.terminal.show import OrderedTiles, room, shown

FILE = Path(__file__).parent / "language" / "longformer.attn"
LENGTH, HEADS, HEAD_DIM = 8192, 4, 64
CHECKED_LENGTH = 1024
MILLION = 1_048_576


def main() -> None:
    console = Console(highlight=False)
    pattern = maskdsl.load(FILE)["longformer"]
    mask = pattern.bind(n=4096)
    console.rule(f"[bold]1. A pattern[/]  {FILE.name}")
    console.print(FILE.read_text().rstrip(), markup=False, soft_wrap=True)
    console.rule("[bold]2. Its sparsity, drawn")
    draw(console, mask)
    console.rule("[bold]3. The exact map of a million tokens")
    map_a_million(console, pattern.bind(n=MILLION))
    console.rule("[bold]4. The kernel that a GPU would run")
    print_kernel(console, mask)
    console.rule("[bold]5. Computed here, and checked")
    check(console, pattern.bind(n=CHECKED_LENGTH, heads=HEADS))
    race(console, pattern.bind(n=LENGTH, heads=HEADS))


def draw(console: Console, mask: Mask) -> None:
    space = room(console, mask.ir, 1)
    scale = fit((mask.query_length, mask.key_length), space)
    tiles = mask.tiles(block=scale.block)
    counted, labels = Counted.beside(mask.ir, None, {}), Labels.of_sides(mask.ir, {})
    console.print(shown([OrderedTiles("declared order", mask.ir, tiles, counted, scale, space, labels)], [0]))


def map_a_million(console: Console, mask: Mask) -> None:
    """The class of every tile, as runs."""
    begin = perf_counter()
    tiles = mask.tiles(block=(128, 128))
    elapsed = perf_counter() - begin
    every = tiles.query_blocks * tiles.key_blocks
    full, partial = tiles.full_count(), tiles.partial_count()
    empty = every - full - partial
    console.print(f"{units.count(mask.query_length)} tokens, {units.count(every)} tiles of 128 x 128:")
    console.print(f"{units.count(full)} full, {units.count(partial)} partial, {units.count(empty)} empty,")
    console.print(f"exact, found in [bold green]{units.duration(elapsed)}[/]")


def print_kernel(console: Console, mask: Mask) -> None:
    (stage,) = (each for each in STAGES if each.name == "triton")
    text = stage.text(mask, {})
    console.print(Syntax(text, "python", theme="ansi_dark", background_color="default", word_wrap=True))


def tensors(mask: Mask, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    lengths = mask.query_length, mask.key_length, mask.key_length
    return [torch.randn(1, HEADS, length, HEAD_DIM, dtype=dtype, requires_grad=True) for length in lengths]


def check(console: Console, mask: Mask) -> None:
    """The output and the gradients against a softmax over all pairs, written out, in float64."""
    q, k, v = inputs = tensors(mask, torch.float64)
    allowed = torch.tensor(mask.dense())
    scores = (q @ k.mT / HEAD_DIM**0.5).masked_fill(~allowed, float("-inf"))
    expected = scores.softmax(dim=-1) @ v
    found = mask.compile("tiled")(q, k, v)
    toward = torch.randn_like(expected)
    expected_gradients = torch.autograd.grad(expected, inputs, toward)
    found_gradients = torch.autograd.grad(found, inputs, toward)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title_justify="left")
    table.add_column(f"float64, {units.count(mask.query_length)} tokens, {HEADS} heads")
    table.add_column("largest difference from dense", justify="right")
    pairs = [(found, expected), *zip(found_gradients, expected_gradients, strict=True)]
    names = ("output", "gradient of q", "gradient of k", "gradient of v")
    for name, (one, other) in zip(names, pairs, strict=True):
        difference = (one - other).abs().max().item()
        assert difference < 1e-9, f"{name} is wrong by {difference}"
        table.add_row(name, f"[green]{difference:.1e}[/]")
    console.print(table)


def race(console: Console, mask: Mask) -> None:
    """The same attention over tiles and over all pairs."""
    q, k, v = (each.detach() for each in tensors(mask, torch.float32))
    attention = mask.compile("tiled")
    allowed = torch.tensor(mask.dense())
    calls = {
        "maskdsl, tiles": lambda: attention(q, k, v),
        "torch, all pairs with a mask": lambda: scaled_dot_product_attention(q, k, v, attn_mask=allowed),
    }
    times = {name: min(timed(call) for _ in range(4)) for name, call in calls.items()}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"float32, {units.count(mask.query_length)} tokens, {HEADS} heads")
    table.add_column("best of 4, forward", justify="right")
    for name, seconds in times.items():
        table.add_row(name, units.duration(seconds))
    console.print(table)
    console.print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", style="dim")


def timed(call: Callable[[], object]) -> float:
    begin = perf_counter()
    call()
    return perf_counter() - begin


if __name__ == "__main__":
    main()

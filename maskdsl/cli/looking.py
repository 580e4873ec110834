"""Declares the commands that draw, measure, explain and plan patterns. `cli/app.py` has the others."""

from typing import Any

import click

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import OnlyInTerminals
from maskdsl.base.errors.commands.pictures import NeedsOut, NoRanks
from maskdsl.base.limits import MOST_HEAD_DIM
from maskdsl.cli import commands, request
from maskdsl.cli.declaring import command
from maskdsl.cli.request import options
from maskdsl.ir.heads import Heads

_BLOCKS = ("128x128", "128x64", "64x64")
"""The tile sizes that `order` compares."""
_DTYPES = ("float16", "bfloat16", "float32", "float64")
"""The types of q, k and v."""


@command
@options.pattern
@options.heads
@options.head
@options.orders
@click.option("--block", metavar="SIZE", help="Tile size in tokens, 128 or 128x64; by default it fits the window.")
@options.given
@options.seed
@options.tensors
@click.option("--out", metavar="PICTURE", help="Write a picture: .png, .svg or .pdf.")
@click.option("--mask", is_flag=True, help="With --out: draw single pairs of tokens.")
@click.option(
    "--around",
    metavar="CELL",
    help="With --out: draw what this query, such as 3,17, attends on the grid of its keys.",
)
@click.option("--stacked", is_flag=True, help="With --out: draw heads as cards, one behind the other.")
@click.option("--rows", metavar="A:B", help="Only these queries, down to single tokens.")
@click.option("--columns", metavar="A:B", help="Only these keys.")
@click.option(
    "--diff",
    metavar="'FILE [PATTERN] [NAME=VALUE]'",
    help="Show where this pattern differs. Parameters that both have keep the values of the first.",
)
@click.option("--ranks", type=options.RANKS, metavar="NUMBER", help="Colour tiles by the processes of a plan.")
@options.per_node
@options.json
def show(
    out: str | None,
    mask: bool,
    around: str | None,
    stacked: bool,
    rows: str | None,
    columns: str | None,
    diff: str | None,
    ranks: int | None,
    per_node: int,
    as_json: bool,
    **shared: Any,
) -> None:
    """Draw the tiles of a pattern: which are empty, partly attended, full; or which process computes them."""
    subject, ranges = request.shared_options.SharedOptions(**shared), request.shared_options.Ranges(rows, columns)
    in_files = {"--mask": mask, "--around": around is not None, "--stacked": stacked}
    in_terminals = {"--rows": rows is not None, "--columns": columns is not None, "--diff": diff is not None}
    for name in (name for name, given in in_files.items() if given and out is None):
        raise AttnError(NeedsOut(option=name))
    for name in (name for name, given in in_terminals.items() if given and (out or (as_json and diff is None))):
        raise AttnError(OnlyInTerminals(option=name))
    others = {
        "--json": (as_json, "`maskdsl shard --json` prints plans"),
        "--diff": (diff is not None, "draw each pattern by itself"),
        "--around": (around is not None, "`maskdsl view --ranks` names the ranks of single pairs"),
    }
    for name in (name for name, (given, _) in others.items() if given and ranks is not None):
        raise AttnError(NoRanks(option=name, advice=others[name][1]))
    planned = None if ranks is None else request.rank_options.RankOptions([ranks], per_node)
    if diff is not None:
        commands.differences.show_differences(subject, diff, ranges, as_json)
    elif as_json:
        commands.show_json.show_json(subject)
    elif out is not None:
        commands.pictures.picture(commands.pictures.PictureRequest(subject, mask, around, stacked, planned), out)
    else:
        commands.show_and_stats.show(subject, ranges, planned)


@command
@options.pattern
@options.heads
@options.head
@options.orders
@click.option(
    "--block",
    "blocks",
    multiple=True,
    metavar="SIZE",
    help="Tile size in tokens; may be repeated.",
    show_default="some that fit",
)
@options.given
@options.seed
@options.tensors
@click.option("--out", metavar="PAGE", help="Write this file.", show_default="PATTERN.html")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--watch", is_flag=True, help="Write nothing; serve the page on this machine and follow the file as it is saved."
)
@click.option(
    "--port",
    type=click.IntRange(min=0),
    default=0,
    help="With --watch: serve on this port.",
    show_default="any free port",
)
@click.option(
    "--ranks",
    metavar="NUMBER[,NUMBER]...",
    callback=options.counts,
    help="Colour tiles by the processes of a plan for so many.",
)
@options.per_node
def view(
    blocks: tuple[str, ...],
    out: str | None,
    opens: bool,
    watch: bool,
    port: int,
    ranks: tuple[int, ...],
    per_node: int,
    **shared: Any,
) -> None:
    """Write a page that shows a pattern, or the layers of a stack, from the whole map to single tokens."""
    subject = request.shared_options.SharedOptions(**shared)
    wanted = commands.view_page.PageRequest(subject, blocks, request.rank_options.RankOptions(ranks, per_node))
    commands.view_page.view(wanted, out, opens, watch, port)


@command
@options.pattern
@options.heads
@options.head
@options.orders
@options.block
@options.given
@options.head_dim
@options.gpus
@options.seed
@options.tensors
@options.json
def stats(head_dim: int, gpus: tuple[str, ...], as_json: bool, **shared: Any) -> None:
    """Measure a pattern: density, waste, arithmetic, keys per query. Exact; times on GPUs are predictions."""
    commands.show_and_stats.stats(request.shared_options.SharedOptions(**shared), head_dim, gpus, as_json)


@command
@options.pattern
@click.option(
    "--pair",
    type=(str, str),
    metavar="QUERY KEY",
    help="Say which line allows or forbids this pair. Give positions, or cells of a grid such as 3,17.",
)
@options.heads
@click.option("--head", default=0, metavar="HEAD", help="The head of the pair.")
@options.order
@options.block
@options.given
@options.seed
@options.json
def explain(
    file: str,
    words: tuple[str, ...],
    pair: tuple[str, str] | None,
    heads: Heads,
    head: int,
    order: str | None,
    block: str,
    given: tuple[str, ...],
    seed: int | None,
    as_json: bool,
) -> None:
    """Explain in words and formulas what a pattern does and costs, or why a pair of tokens attends or does not."""
    commands.explanations.explain(file, words, heads, order, block, pair, head, given, seed, as_json)


@command
@options.pattern
@options.heads
@click.option(
    "--block",
    "blocks",
    multiple=True,
    default=_BLOCKS,
    metavar="SIZE",
    help="Tile size in tokens; may be repeated.",
)
@click.option("--gpu", default="H100", metavar="NAME", help="Predict times on this GPU.")
@options.given
@options.head_dim
@click.option("--top", type=click.IntRange(1, 10**6), default=10, help="How many lines of the table to print.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all orders that were compared.")
def order(
    file: str,
    words: tuple[str, ...],
    heads: Heads,
    blocks: tuple[str, ...],
    gpu: str,
    given: tuple[str, ...],
    head_dim: int,
    top: int,
    as_json: bool,
) -> None:
    """Find the order of tokens in which a pattern takes the least time; compare it with others."""
    commands.order_and_shard.order(file, words, heads, blocks, gpu, head_dim, given, top, as_json)


@command
@options.pattern
@options.heads
@options.ranks
@options.per_node
@click.option(
    "--link",
    type=(options.RATE, options.RATE),
    default=(50.0, 400.0),
    metavar="BETWEEN INSIDE",
    help="Gigabytes a second that a process receives from other nodes, and from its own.",
)
@click.option("--head-dim", type=click.IntRange(1, MOST_HEAD_DIM), default=128, help="Head dimension.")
@click.option("--dtype", type=click.Choice(_DTYPES), default="bfloat16", help="The type of q, k and v.")
@options.given
@options.json
def shard(
    file: str,
    words: tuple[str, ...],
    heads: Heads,
    ranks: tuple[int, ...],
    given: tuple[str, ...],
    as_json: bool,
    **shape: Any,
) -> None:
    """Plan a pattern or stack for many processes: what each computes and receives, and what schemes cost."""
    commands.order_and_shard.shard(file, words, heads, ranks, given, as_json, **shape)


@command
@options.pattern
@options.heads
@click.option("--layers", type=int, help="How many layers to follow; by default, until they add nothing.")
@click.option("--from", "token", type=int, metavar="TOKEN", help="The token to start from; by default the middle one.")
@options.given
@options.seed
@options.json
@click.option("--out", metavar="PICTURE", help="Write a picture, such as field.png.")
def field(
    file: str,
    words: tuple[str, ...],
    heads: Heads,
    layers: int | None,
    token: int | None,
    given: tuple[str, ...],
    seed: int | None,
    as_json: bool,
    out: str | None,
) -> None:
    """Follow information through the layers of a stack, or through a pattern repeated as layers."""
    commands.receptive_fields.field(file, words, heads, layers, token, given, seed, as_json, out)


LOOKING = (show, view, stats, explain, order, shard, field)
"""In the order of the help page."""

"""Declares the arguments and options that several commands share, as decorators."""

from collections.abc import Callable
from functools import wraps
from math import isnan
from typing import Any, cast

import click

from maskdsl.analysis.cost.devices import DEVICES
from maskdsl.base.limits import MOST_ENTRIES, MOST_HEAD_DIM, MOST_HEADS
from maskdsl.cli.declaring import Function, argument
from maskdsl.cli.request import completions
from maskdsl.cli.request.named_files import read_file
from maskdsl.ir.heads import DEFAULT_HEADS, Heads

_MOST_SECONDS = 3600.0
SEED = click.IntRange(0, 2**63 - 1)
RANKS = click.IntRange(1, 1 << 16)
RATE = click.FloatRange(0, 1e6, min_open=True)


def _a_number(context: click.Context, parameter: click.Parameter, value: float) -> float:
    """Refuses NaN, which passes every comparison with bounds."""
    if isnan(value):
        raise click.BadParameter("nan is not a number")
    return value


def _together(*declared: Callable[..., Any]) -> Callable[[Function], Function]:
    def declare(function: Function) -> Function:
        for each in reversed(declared):
            function = each(function)
        return function

    return declare


files = argument(
    "paths",
    metavar="FILE...",
    nargs=-1,
    required=True,
    help=".attn files, or folders of them.",
    shell_complete=completions.files,
)
pattern = _together(
    argument(
        "file",
        metavar="FILE",
        help="An .attn file, or the name of an example, such as longformer.",
        shell_complete=completions.files,
        callback=read_file,
    ),
    argument(
        "words",
        metavar="[PATTERN|NAME=VALUE]...",
        nargs=-1,
        help="The pattern, which may be left out if there is only one, and its parameters: "
        "n=4096, shift=-3, 'kernel=(7, 7)', causal=True, axis=y.",
        shell_complete=completions.words,
    ),
)
_number_of_heads = _together(
    click.option(
        "--heads",
        type=click.IntRange(1, MOST_HEADS),
        default=DEFAULT_HEADS,
        help="Number of query heads; needed where the pattern differs by head.",
    ),
    click.option(
        "--key-heads",
        type=click.IntRange(1, MOST_HEADS),
        help="Number of key heads, which divides that of query heads and is equal by default.",
    ),
)


def heads(function: Function) -> Function:
    """Declares `--heads` and `--key-heads`; the command takes both as one value, `heads`."""

    @wraps(function)
    def command(*arguments: Any, heads: int, key_heads: int | None, **others: Any) -> Any:
        return function(*arguments, heads=Heads(heads, key_heads), **others)

    return _number_of_heads(cast(Function, command))


head = click.option("--head", type=int, multiple=True, metavar="HEAD", help="Only this head; may be repeated.")
orders = click.option(
    "--order",
    "orders",
    multiple=True,
    metavar="KEYS",
    help="Lay tokens out by these keys instead of the pattern's own: 'hilbert(y, x)', 'image by y // 8, x // 8', "
    "auto for the best, or declared. Repeat it to compare.",
    shell_complete=completions.orders,
)
order = click.option("--order", metavar="KEYS", help="Lay tokens out by these keys.")
block = click.option("--block", default="128", metavar="SIZE", help="Tile size in tokens, 128 or 128x64.")
given = click.option(
    "--input",
    "given",
    multiple=True,
    metavar="NAME=FILE.npy",
    help="Values of a run-time input. Inputs left out get plausible made-up values.",
)
seed = click.option(
    "--random",
    "seed",
    type=SEED,
    metavar="SEED",
    help="Show what routes select in random queries and keys of this seed; by default, all candidates.",
)
tensors = click.option(
    "--tensors",
    metavar="FILE.safetensors",
    help="Show what routes select in the `q` and `k` of this file, which may also hold run-time inputs.",
)
json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
head_dim = click.option("--head-dim", type=click.IntRange(1, MOST_HEAD_DIM), default=64, help="Head dimension.")
gpus = click.option(
    "--gpu",
    "gpus",
    multiple=True,
    metavar="NAME",
    help=f"Predict times on {', '.join(device.name for device in DEVICES)}, or all; may be repeated.",
    shell_complete=completions.gpus,
)


def counts(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Numbers of ranks, from `8,64,512`; none from None."""
    return () if value is None else tuple(RANKS.convert(each.strip(), parameter, context) for each in value.split(","))


ranks = click.option(
    "--ranks", default="8,64,512", metavar="NUMBER[,NUMBER]...", callback=counts, help="The numbers of processes."
)
per_node = click.option("--per-node", type=RANKS, default=8, help="Processes that are neighbours in one node.")
shape = _together(
    click.option(
        "--dtype",
        default="float32",
        help="float64, float32, bfloat16 or float16.",
        shell_complete=completions.dtypes,
    ),
    head_dim,
    click.option("--batch", type=click.IntRange(1, MOST_ENTRIES), default=1, help="Number of batch entries."),
    click.option("--device", default="cpu", help="cpu, cuda, or another device of torch."),
    click.option("--backward", is_flag=True, help="Time forward and backward together."),
)
"""What a `BenchShape` is made of, beside the number of heads."""


seconds = click.option(
    "--seconds",
    type=click.FloatRange(0.0, _MOST_SECONDS),
    default=2.0,
    callback=_a_number,
    help="About how long to repeat each measurement.",
)

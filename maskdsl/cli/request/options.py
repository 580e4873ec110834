"""Declares the arguments and options that several commands share."""

from math import isnan
from typing import Annotated

from typer import Argument, BadParameter, Option

from maskdsl.analysis.cost.devices import DEVICES
from maskdsl.base.arguments import MOST_ENTRIES, MOST_HEAD_DIM
from maskdsl.bind.bound_heads import MOST_HEADS
from maskdsl.cli.request import completions

MOST_SECONDS = 3600.0
MOST_SEED = 2**63 - 1


def _a_number(value: float) -> float:
    """Refuses NaN, which passes every comparison with bounds."""
    if isnan(value):
        raise BadParameter("nan is not a number")
    return value


File = Annotated[
    str, Argument(metavar="FILE", help="An .attn file.", show_default=False, autocompletion=completions.files)
]
Files = Annotated[
    list[str],
    Argument(metavar="FILE...", help=".attn files.", show_default=False, autocompletion=completions.files),
]
Words = Annotated[
    list[str] | None,
    Argument(
        metavar="PATTERN|NAME=VALUE",
        help="The pattern, which may be left out if there is only one, and its parameters: "
        "n=4096, shift=-3, 'kernel=(7, 7)', causal=True, axis=y.",
        show_default=False,
        autocompletion=completions.words,
    ),
]
Heads = Annotated[int, Option("--heads", min=1, max=MOST_HEADS, help="Number of query heads.")]
OneHead = Annotated[
    list[int] | None, Option("--head", metavar="HEAD", help="Only this head; may be repeated.", show_default=False)
]
Orders = Annotated[
    list[str] | None,
    Option(
        "--order",
        metavar="KEYS",
        help="Lay tokens out by these keys instead of the pattern's own: 'hilbert(y, x)', 'image by y // 8, x // 8', "
        "auto for the best, or declared. Repeat it to compare.",
        show_default=False,
        autocompletion=completions.orders,
    ),
]
Order = Annotated[
    str | None, Option("--order", metavar="KEYS", help="Lay tokens out by these keys.", show_default=False)
]
Given = Annotated[
    list[str] | None,
    Option(
        "--input",
        metavar="NAME=FILE.npy",
        help="Values of a run-time input. Inputs left out get plausible made-up values.",
        show_default=False,
    ),
]
Random = Annotated[
    int | None,
    Option(
        "--random",
        min=0,
        max=MOST_SEED,
        metavar="SEED",
        help="Show what routes select in random queries and keys of this seed; by default, all candidates.",
        show_default=False,
    ),
]
Tensors = Annotated[
    str | None,
    Option(
        "--tensors",
        metavar="FILE.safetensors",
        help="Show what routes select in the `q` and `k` of this file, which may also hold run-time inputs.",
        show_default=False,
    ),
]
Json = Annotated[bool, Option("--json", help="Print JSON.")]
Gpus = Annotated[
    list[str] | None,
    Option(
        "--gpu",
        metavar="NAME",
        help=f"Predict times on {', '.join(device.name for device in DEVICES)}, or all; may be repeated.",
        show_default=False,
        autocompletion=completions.gpus,
    ),
]
Dtype = Annotated[
    str, Option("--dtype", help="float64, float32, bfloat16 or float16.", autocompletion=completions.dtypes)
]
HeadDim = Annotated[int, Option("--head-dim", min=1, max=MOST_HEAD_DIM, help="Head dimension.")]
Batch = Annotated[int, Option("--batch", min=1, max=MOST_ENTRIES, help="Number of batch entries.")]
Device = Annotated[str, Option("--device", help="cpu, cuda, or another device of torch.")]
Backward = Annotated[bool, Option("--backward", help="Time forward and backward together.")]
Seconds = Annotated[
    float,
    Option(
        "--seconds", min=0.0, max=MOST_SECONDS, callback=_a_number, help="About how long to repeat each measurement."
    ),
]

DEFAULT_HEADS = 4
"""The default number of heads: enough to see that heads differ."""

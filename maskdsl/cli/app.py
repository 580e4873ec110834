"""Declares the commands: their arguments, options and help. `cli/commands` has what they do."""

import sys
from typing import Annotated

from typer import Context, Exit, Option, Typer

from maskdsl import __version__
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import OnlyInTerminals
from maskdsl.base.errors.commands.pictures import NeedsOut
from maskdsl.cli.commands import check_and_fmt, show_and_stats
from maskdsl.cli.commands import order as order_command
from maskdsl.cli.consoles import Commands, print_error, warnings_shown
from maskdsl.cli.request import completions
from maskdsl.cli.request.options import (
    DEFAULT_HEADS,
    MOST_SEED,
    Backward,
    Batch,
    Device,
    Dtype,
    File,
    Files,
    Given,
    Gpus,
    HeadDim,
    Heads,
    Json,
    OneHead,
    Order,
    Orders,
    Random,
    Seconds,
    Tensors,
    Words,
)
from maskdsl.cli.request.shared_options import Ranges, SharedOptions

app = Typer(
    cls=Commands,
    help="Attention patterns as text: check, draw, measure, compile and run them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
BLOCKS = ["128x128", "128x64", "64x64"]
"""The tile sizes that `order` compares."""


def invoke(arguments: list[str] | None) -> None:
    """Runs a command; `main` of the package calls it."""
    try:
        with warnings_shown():
            app(arguments, prog_name="maskdsl")
    except AttnError as error:
        print_error(error)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def top(context: Context, version: Annotated[bool, Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise Exit
    if context.invoked_subcommand is None:
        raise Exit(2)


@app.command()
def check(
    paths: Files,
    heads: Heads = DEFAULT_HEADS,
    strict: Annotated[bool, Option("--strict", help="Exit with 1 for warnings too.")] = False,
    json: Json = False,
) -> None:
    """Report all errors and warnings of these files: in the text, and in each pattern at its default parameters."""
    raise Exit(check_and_fmt.check(paths, heads, strict, json))


@app.command()
def fmt(
    paths: Files,
    check: Annotated[bool, Option("--check", help="Write nothing; exit with 1 if a file would change.")] = False,
    diff: Annotated[bool, Option("--diff", help="Write nothing; print what would change.")] = False,
) -> None:
    """Rewrite files in the canonical layout. `-` reads standard input and writes standard output."""
    raise Exit(check_and_fmt.fmt(paths, check, diff))


@app.command()
def show(
    file: File,
    words: Words = None,
    heads: Heads = DEFAULT_HEADS,
    head: OneHead = None,
    order: Orders = None,
    block: Annotated[
        str | None,
        Option("--block", metavar="SIZE", help="Tile size in tokens, 128 or 128x64; by default it fits the window."),
    ] = None,
    given: Given = None,
    random: Random = None,
    tensors: Tensors = None,
    out: Annotated[
        str | None,
        Option("--out", metavar="PICTURE", help="Write a picture: .png, .svg or .pdf.", show_default=False),
    ] = None,
    mask: Annotated[bool, Option("--mask", help="With --out: draw single pairs of tokens.")] = False,
    around: Annotated[
        str | None,
        Option(
            "--around",
            metavar="CELL",
            help="With --out: draw what this query, such as 3,17, attends on the grid of its keys.",
            show_default=False,
        ),
    ] = None,
    stacked: Annotated[
        bool, Option("--stacked", help="With --out: draw heads as cards, one behind the other.")
    ] = False,
    rows: Annotated[
        str | None,
        Option("--rows", metavar="A:B", help="Only these queries, down to single tokens.", show_default=False),
    ] = None,
    columns: Annotated[
        str | None, Option("--columns", metavar="A:B", help="Only these keys.", show_default=False)
    ] = None,
    diff: Annotated[
        str | None,
        Option(
            "--diff",
            metavar="'FILE [PATTERN] [NAME=VALUE]'",
            help="Show where this pattern differs. Parameters that both have keep the values of the first.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Draw the tiles of a pattern: which are empty, partly attended, full."""
    options = SharedOptions(file, words or [], heads, head or [], order or [], block, given or [], random, tensors)
    ranges = Ranges(rows, columns)
    in_files = {"--mask": mask, "--around": around is not None, "--stacked": stacked}
    in_terminals = {"--rows": rows is not None, "--columns": columns is not None, "--diff": diff is not None}
    for name in (name for name, given in in_files.items() if given and out is None):
        raise AttnError(NeedsOut(option=name))
    for name in (name for name, given in in_terminals.items() if given and (out or (json and diff is None))):
        raise AttnError(OnlyInTerminals(option=name))
    # start-up time: each of these imports what the others do not need
    if diff is not None:
        from maskdsl.cli.commands import differences

        differences.show_differences(options, diff, ranges, json)
    elif json:
        from maskdsl.cli.commands import show_json

        show_json.show_json(options)
    elif out is not None:
        from maskdsl.cli.commands import pictures

        pictures.picture(pictures.PictureRequest(options, mask, around, stacked), out)
    else:
        show_and_stats.show(options, ranges)


@app.command()
def view(
    file: File,
    words: Words = None,
    heads: Heads = DEFAULT_HEADS,
    head: OneHead = None,
    order: Orders = None,
    block: Annotated[
        list[str] | None,
        Option("--block", metavar="SIZE", help="Tile size in tokens; may be repeated.", show_default="some that fit"),
    ] = None,
    given: Given = None,
    random: Random = None,
    tensors: Tensors = None,
    out: Annotated[
        str | None, Option("--out", metavar="PAGE", help="Write this file.", show_default="PATTERN.html")
    ] = None,
    opens: Annotated[bool, Option("--open", help="Open the page in the browser.")] = False,
    watch: Annotated[
        bool,
        Option("--watch", help="Write nothing; serve the page on this machine and follow the file as it is saved."),
    ] = False,
    port: Annotated[
        int, Option("--port", min=0, help="With --watch: serve on this port.", show_default="any free port")
    ] = 0,
) -> None:
    """Write a page that shows a pattern, or the layers of a stack, from the whole map to single tokens."""
    from maskdsl.cli.commands import view_page  # start-up time

    options = SharedOptions(file, words or [], heads, head or [], order or [], None, given or [], random, tensors)
    view_page.view(view_page.PageRequest(options, block or []), out, opens, watch, port)


@app.command()
def stats(
    file: File,
    words: Words = None,
    heads: Heads = DEFAULT_HEADS,
    head: OneHead = None,
    order: Orders = None,
    block: Annotated[str, Option("--block", metavar="SIZE", help="Tile size in tokens, 128 or 128x64.")] = "128",
    given: Given = None,
    head_dim: HeadDim = 64,
    gpu: Gpus = None,
    random: Random = None,
    tensors: Tensors = None,
    json: Json = False,
) -> None:
    """Measure a pattern: density, waste, arithmetic, keys per query. Exact; times on GPUs are predictions."""
    options = SharedOptions(file, words or [], heads, head or [], order or [], block, given or [], random, tensors)
    show_and_stats.stats(options, head_dim, gpu or [], json)


@app.command()
def explain(
    file: File,
    words: Words = None,
    pair: Annotated[
        tuple[str, str] | None,
        Option(
            "--pair",
            metavar="QUERY KEY",
            help="Say which line allows or forbids this pair. Give positions, or cells of a grid such as 3,17.",
            show_default=False,
        ),
    ] = None,
    heads: Heads = 1,
    head: Annotated[int, Option("--head", metavar="HEAD", help="The head of the pair.")] = 0,
    order: Order = None,
    block: Annotated[str, Option("--block", metavar="SIZE", help="Tile size in tokens, 128 or 128x64.")] = "128",
    given: Given = None,
    random: Random = None,
    json: Json = False,
) -> None:
    """Explain in words and formulas what a pattern does and costs, or why a pair of tokens attends or does not."""
    from maskdsl.cli.commands import explanations  # start-up time

    explanations.explain(file, words or [], heads, order, block, pair, head, given or [], random, json)


@app.command()
def order(
    file: File,
    words: Words = None,
    heads: Heads = DEFAULT_HEADS,
    block: Annotated[
        list[str] | None,
        Option("--block", metavar="SIZE", help="Tile size in tokens; may be repeated.", show_default=", ".join(BLOCKS)),
    ] = None,
    gpu: Annotated[str, Option("--gpu", metavar="NAME", help="Predict times on this GPU.")] = "H100",
    given: Given = None,
    head_dim: HeadDim = 64,
    top: Annotated[int, Option("--top", min=1, max=10**6, help="How many lines of the table to print.")] = 10,
    json: Annotated[bool, Option("--json", help="Print JSON, with all orders that were compared.")] = False,
) -> None:
    """Find the order of tokens in which a pattern takes the least time; compare it with others."""
    order_command.order(file, words or [], heads, block or BLOCKS, gpu, head_dim, given or [], top, json)


@app.command()
def field(
    file: File,
    words: Words = None,
    heads: Heads = DEFAULT_HEADS,
    layers: Annotated[
        int | None,
        Option("--layers", help="How many layers to follow; by default, until they add nothing.", show_default=False),
    ] = None,
    token: Annotated[
        int | None,
        Option(
            "--from", metavar="TOKEN", help="The token to start from; by default the middle one.", show_default=False
        ),
    ] = None,
    given: Given = None,
    random: Random = None,
    json: Json = False,
    out: Annotated[
        str | None, Option("--out", metavar="PICTURE", help="Write a picture, such as field.png.", show_default=False)
    ] = None,
) -> None:
    """Follow information through the layers of a stack, or through a pattern repeated as layers."""
    from maskdsl.cli.commands import receptive_fields  # start-up time

    receptive_fields.field(file, words or [], heads, layers, token, given or [], random, json, out)


@app.command()
def emit(
    file: File,
    words: Words = None,
    stage: Annotated[
        str,
        Option("--stage", help=f"What to print: {', '.join(completions.STAGES)}.", autocompletion=completions.stages),
    ] = completions.STAGES[-1],
    heads: Heads = DEFAULT_HEADS,
    order: Order = None,
    given: Given = None,
) -> None:
    """Print what a stage of the compiler makes of a pattern, as text."""
    from maskdsl.cli.commands import emission  # start-up time

    emission.emit(file, words or [], stage, heads, order, given or [])


@app.command()
def doctor(json: Json = False) -> None:
    """Report what works on this machine, and what to install for the rest."""
    from maskdsl.cli.commands import doctor as doctor_command  # start-up time

    raise Exit(doctor_command.doctor(json))


@app.command()
def lsp(
    stdio: Annotated[
        bool, Option("--stdio", hidden=True, help="Accepted because editors pass it; there is no other transport.")
    ] = True,
) -> None:
    """Serve editors on standard input and output: errors as you type, hover, completion, formatting."""
    from maskdsl.cli.commands import lsp as lsp_command  # an optional dependency

    lsp_command.serve()


@app.command()
def verify(
    file: File,
    words: Words = None,
    cases: Annotated[int, Option("--cases", min=1, max=10**6, help="Random settings to try.")] = 20,
    seed: Annotated[int, Option("--seed", min=0, max=MOST_SEED, help="The seed of the random settings.")] = 0,
    backend: Annotated[
        list[str] | None, Option("--backend", help="Only this backend; may be repeated.", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Test a pattern at random sizes, heads, orders and types: its tiles and every backend against its meaning."""
    from maskdsl.cli.commands import run_and_bench  # imports torch: start-up time

    raise Exit(run_and_bench.verify(file, words or [], cases, seed, backend or [], json))


@app.command()
def run(
    file: File,
    words: Words = None,
    backend: Annotated[
        str, Option("--backend", help="Which backend computes.", autocompletion=completions.backends)
    ] = "auto",
    heads: Heads = DEFAULT_HEADS,
    order: Order = None,
    given: Given = None,
    dtype: Dtype = "float32",
    head_dim: HeadDim = 64,
    batch: Batch = 1,
    device: Device = "cpu",
    backward: Backward = False,
    seconds: Seconds = 2.0,
    json: Json = False,
) -> None:
    """Compute a pattern on this machine and time it."""
    from maskdsl.cli.commands import run_and_bench  # imports torch: start-up time

    shape = run_and_bench.BenchShape(heads, head_dim, batch, dtype, device, backward)
    run_and_bench.run(file, words or [], backend, order, given or [], shape, seconds, json)


@app.command()
def bench(
    file: File,
    words: Words = None,
    heads: Heads = DEFAULT_HEADS,
    order: Order = None,
    given: Given = None,
    dtype: Dtype = "float32",
    head_dim: HeadDim = 64,
    batch: Batch = 1,
    device: Device = "cpu",
    backward: Backward = False,
    seconds: Seconds = 2.0,
    json: Json = False,
) -> None:
    """Compare the backends with each other and with torch's dense attention on a pattern."""
    from maskdsl.cli.commands import run_and_bench  # imports torch: start-up time

    shape = run_and_bench.BenchShape(heads, head_dim, batch, dtype, device, backward)
    run_and_bench.bench(file, words or [], order, given or [], shape, seconds, json)

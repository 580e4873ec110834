"""Declares the commands: their arguments, options and help. `cli/commands` has what they do.

Imports what parses a command line, and nothing else: a command imports what it needs when it runs.
"""

import sys
from typing import Any

import click
from click.exceptions import Exit

from maskdsl import __version__
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import OnlyInTerminals
from maskdsl.base.errors.commands.pictures import NeedsOut, NoRanks
from maskdsl.base.limits import MOST_HEAD_DIM
from maskdsl.cli import commands, request, shells
from maskdsl.cli.declaring import Commands, argument
from maskdsl.cli.request import completions, options
from maskdsl.ir.heads import Heads

_BLOCKS = ("128x128", "128x64", "64x64")
"""The tile sizes that `order` compares."""
_DTYPES = ("float16", "bfloat16", "float32", "float64")
"""The types of q, k and v."""
_CHECK_FORMS = ("text", "json", "github", "sarif")
"""The forms in which `check` prints what it finds."""


def invoke(arguments: list[str] | None) -> None:
    """Runs a command and exits; `main` of the package calls it."""
    try:
        code = app.main(arguments, prog_name="maskdsl", standalone_mode=False)
    except click.Abort as abort:
        raise KeyboardInterrupt(*(abort.__cause__.args if abort.__cause__ else ())) from None
    except click.ClickException as error:
        from maskdsl.cli.help_page import print_refusal  # start-up time

        print_refusal(error)
        sys.exit(error.exit_code)
    except AttnError as error:
        from maskdsl.cli.consoles import print_error  # start-up time

        print_error(error)
        sys.exit(2)
    sys.exit(code)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, message="%(version)s", help="Print the version.")
@shells.install_completion
@shells.show_completion
@click.pass_context
def app(context: click.Context) -> None:
    """Attention patterns as text: check, draw, measure, compile and run them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        raise Exit(2)


@app.command()
@argument("name", metavar="[NAME]", required=False, help="The name of an example, or of a file of your own.")
@click.option("--from", "source", metavar="FILE", help="Copy this example or file.")
@click.option("--list", "lists", is_flag=True, help="Write nothing; print the names of all examples.")
@click.pass_context
def new(context: click.Context, name: str | None, source: str | None, lists: bool) -> None:
    """Write a file to begin with: a copy of the example of this name, or one pattern that explains itself."""
    if lists:
        commands.new_file.list_examples()
    elif name is None:
        raise click.MissingParameter(ctx=context, param=context.command.params[0])
    else:
        commands.new_file.new(name, source)


@app.command()
@options.files
@options.heads
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option(
    "--format",
    "form",
    type=click.Choice(_CHECK_FORMS),
    default="text",
    help="What is printed: github annotates the lines of a pull request, sarif is for code scanning.",
)
@options.json
def check(paths: tuple[str, ...], heads: Heads, strict: bool, form: str, as_json: bool) -> None:
    """Report all errors and warnings of these files: in the text, and in each pattern at its default parameters."""
    raise Exit(commands.check_and_fmt.check(paths, heads, strict, "json" if as_json else form))


@app.command()
@options.files
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Write nothing; print what would change.")
@click.option("--upgrade", is_flag=True, help="Read files of the first version of the language, and write this one.")
def fmt(paths: tuple[str, ...], check: bool, diff: bool, upgrade: bool) -> None:
    """Rewrite files in the canonical layout. `-` reads standard input and writes standard output."""
    raise Exit(commands.check_and_fmt.fmt(paths, check, diff, upgrade))


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
@options.pattern
@click.option(
    "--stage",
    default=completions.STAGES[-1],
    help=f"What to print: {', '.join(completions.STAGES)}.",
    shell_complete=completions.stages,
)
@click.option(
    "--engine",
    metavar="ENGINE",
    help=f"With --out: write what this engine takes: {', '.join(completions.ENGINES)}.",
    shell_complete=completions.engines,
)
@click.option("--out", metavar="ARRAYS", help="With --engine: write this file, such as mask.npz.")
@options.heads
@options.order
@options.given
def emit(
    file: str,
    words: tuple[str, ...],
    stage: str,
    engine: str | None,
    out: str | None,
    heads: Heads,
    order: str | None,
    given: tuple[str, ...],
) -> None:
    """Print what a stage of the compiler makes of a pattern, or write what another engine takes."""
    if engine is not None or out is not None:
        commands.emission.emit_arrays(file, words, engine, out, heads, given)
    else:
        commands.emission.emit(file, words, stage, heads, order, given)


@app.command()
@options.json
def doctor(as_json: bool) -> None:
    """Report what works on this machine, and what to install for the rest."""
    raise Exit(commands.doctor.doctor(as_json))


@app.command()
@click.option(
    "--stdio",
    is_flag=True,
    hidden=True,
    expose_value=False,
    help="Accepted because editors pass it; there is no other transport.",
)
def lsp() -> None:
    """Serve editors on standard input and output: errors as you type, hover, completion, formatting."""
    commands.lsp.serve()


@app.command()
@options.pattern
@click.option("--cases", type=click.IntRange(1, 10**6), default=20, help="Random settings to try.")
@click.option("--seed", type=options.SEED, default=0, help="The seed of the random settings.")
@click.option("--backend", "backends", multiple=True, help="Only this backend; may be repeated.")
@options.json
def verify(file: str, words: tuple[str, ...], cases: int, seed: int, backends: tuple[str, ...], as_json: bool) -> None:
    """Test a pattern at random sizes, heads, orders and types: its tiles and every backend against its meaning."""
    raise Exit(commands.run_and_bench.verify(file, words, cases, seed, backends, as_json))


@app.command()
@options.pattern
@click.option("--backend", default="auto", help="Which backend computes.", shell_complete=completions.backends)
@options.heads
@options.order
@options.given
@options.shape
@options.seconds
@options.json
def run(
    file: str,
    words: tuple[str, ...],
    backend: str,
    heads: Heads,
    order: str | None,
    given: tuple[str, ...],
    seconds: float,
    as_json: bool,
    **shape: Any,
) -> None:
    """Compute a pattern on this machine and time it."""
    sizes = commands.run_and_bench.BenchShape(heads=heads, **shape)
    commands.run_and_bench.run(file, words, backend, order, given, sizes, seconds, as_json)


@app.command()
@options.pattern
@options.heads
@options.order
@options.given
@options.shape
@click.option(
    "--flex/--no-flex",
    default=True,
    help="Whether compiled FlexAttention takes part, which compiles for ten seconds or more.",
)
@options.seconds
@options.json
def bench(
    file: str,
    words: tuple[str, ...],
    heads: Heads,
    order: str | None,
    given: tuple[str, ...],
    flex: bool,
    seconds: float,
    as_json: bool,
    **shape: Any,
) -> None:
    """Compare the backends with SDPA and FlexAttention on a pattern, and say what would make it faster."""
    sizes = commands.run_and_bench.BenchShape(heads=heads, **shape)
    commands.run_and_bench.bench(file, words, order, given, sizes, flex, seconds, as_json)

"""Declares the commands: their arguments, options and help. `cli/commands` has what they do.

Imports what parses a command line, and nothing else: a command imports what it needs when it runs.
"""

import sys
from typing import Any

import click
from click.exceptions import Exit

from maskdsl import __version__
from maskdsl.base.diagnostics import AttnError
from maskdsl.cli import commands, shells
from maskdsl.cli.declaring import Commands, argument
from maskdsl.cli.looking import LOOKING
from maskdsl.cli.request import completions, options
from maskdsl.ir.heads import Heads

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


for each in LOOKING:
    app.add_command(each)


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

"""Draws the help of commands, and mistakes in the words of a command line."""

from collections.abc import Iterable

import click
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from maskdsl.base.text import printable
from maskdsl.cli.consoles import messages, output

_BORDER = "dim"
_NAME = "bold cyan"
_METAVAR = "bold yellow"
_Row = tuple[Text, ...]


def help_page(command: click.Command, context: click.Context) -> str:
    """Usage, help, and panels of arguments, options and commands."""
    console = output()
    with console.capture() as captured:
        console.print(f"\n [bold yellow]Usage:[/] [bold]{escape(_usage(context))}[/]\n")
        console.print(f" {escape(command.help or '')}\n")
        for title, rows in (
            (
                "Arguments",
                [_argument_row(each, context) for each in command.params if isinstance(each, click.Argument)],
            ),
            ("Options", [_option_row(each, context) for each in _shown_options(command, context)]),
            ("Commands", list(_command_rows(command, context))),
        ):
            if rows:
                console.print(_panel(title, rows))
        console.print()
    return captured.get().rstrip("\n")


def print_refusal(error: click.ClickException) -> None:
    """Prints a mistake in the words of a command line to standard error."""
    console = messages()
    context = getattr(error, "ctx", None)
    if context is not None:
        console.print(f"[yellow]Usage:[/] {escape(_usage(context))}")
        console.print(f"[dim]Try [blue]'{escape(context.command_path)} {context.help_option_names[0]}'[/] for help.[/]")
    message = error.format_message()
    if isinstance(error, click.NoSuchOption) and _takes_words(context):
        name = error.option_name.lstrip("-")
        message += f" Parameters of patterns have no dashes: {name}=..." if name.isidentifier() else ""
    console.print(Panel(Text(printable(message)), title="Error", title_align="left", border_style="red"))


def _takes_words(context: click.Context | None) -> bool:
    """Whether a command takes parameters of patterns."""
    return context is not None and any(each.name == "words" for each in context.command.params)


def _usage(context: click.Context) -> str:
    return " ".join([context.command_path, *context.command.collect_usage_pieces(context)])


def _panel(title: str, rows: Iterable[_Row]) -> Panel:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    for row in rows:
        table.add_row(*row)
    return Panel(table, title=title, title_align="left", border_style=_BORDER)


def _argument_row(argument: click.Argument, context: click.Context) -> _Row:
    name, help = argument.get_help_record(context) or ("", "")
    return Text(name, _NAME, no_wrap=True), Text(help)


def _shown_options(command: click.Command, context: click.Context) -> list[click.Option]:
    options = (each for each in command.get_params(context) if isinstance(each, click.Option))
    return [each for each in options if not each.hidden]


def _option_row(option: click.Option, context: click.Context) -> _Row:
    """The long name, the short one, the values, and the help with the default."""
    record = option.get_help_record(context)
    names = sorted(option.opts, key=len, reverse=True)
    values = "" if option.is_flag else option.make_metavar(context)
    short = Text(" ".join(names[1:]), "bold green")
    return Text(names[0], _NAME, no_wrap=True), short, Text(values, _METAVAR), Text(record[1] if record else "")


def _command_rows(command: click.Command, context: click.Context) -> Iterable[_Row]:
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield Text(name, _NAME, no_wrap=True), Text(command.commands[name].help or "")

"""Commands and arguments as click has them, in the order of their declaration, with help that rich draws.

Imports nothing that takes time, so that a command imports only what it needs.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from maskdsl.base.diagnostics import nearest_name

Function = TypeVar("Function", bound=Callable[..., Any])


class _DescribedArgument(click.Argument):
    """An argument with a line of help."""

    def __init__(self, *names: Any, help: str, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.help = help

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        return self.metavar or self.human_readable_name, f"{self.help}{'  [required]' * self.required}"


def argument(name: str, **settings: Any) -> Callable[[Function], Function]:
    """Declares an argument of a command."""
    return click.argument(name, cls=_DescribedArgument, **settings)


class _WithPage(click.Command):
    def get_help(self, ctx: click.Context) -> str:
        from maskdsl.cli.help_page import help_page  # start-up time

        return help_page(self, ctx)


def command(function: Callable[..., Any]) -> click.Command:
    """Declares a command, which a group elsewhere adds."""
    return click.command(cls=_WithPage)(function)


class Commands(_WithPage, click.Group):
    """The group of all commands. Warnings about patterns are shown while one runs."""

    command_class = _WithPage

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            nearest = nearest_name(args[0], self.commands)
            error.message += f" Did you mean '{nearest}'?" if nearest is not None else ""
            raise

    def invoke(self, ctx: click.Context) -> Any:
        from maskdsl.cli.consoles import warnings_shown  # start-up time

        with warnings_shown():
            return super().invoke(ctx)

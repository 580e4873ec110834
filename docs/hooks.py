"""What `mkdocs build` does beside turning Markdown into pages.

The commands are described by the command line itself, and the examples that the gallery links to come along.
"""

import re
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.main import get_command

from maskdsl.cli.app import app

ROOT = Path(__file__).parents[1]
COMMANDS = "<!-- commands -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The examples, as they are."""
    for path in sorted((ROOT / "examples").rglob("*.attn")):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository as links of the site, and the commands in their place."""
    markdown = re.sub(r"\[([^\]]*)\]\(\.\./examples\)", r"`\1`", markdown)
    markdown = markdown.replace("](../examples/", "](examples/")
    return markdown.replace(COMMANDS, commands()) if COMMANDS in markdown else markdown


def commands() -> str:
    """Every command with its arguments and options."""
    group = get_command(app)
    assert isinstance(group, click.Group)
    context = click.Context(group, info_name="maskdsl")
    return "\n\n".join(_command(name, group.commands[name], context) for name in group.list_commands(context))


def _command(name: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [each.get_help_record(context) for each in command.params if not getattr(each, "hidden", False)]
    lines = [f"## {name}", (command.help or "").strip(), f"```text\n{usage}\n```"]
    table = ["| argument or option | meaning |", "| --- | --- |", *(_row(*row) for row in rows if row is not None)]
    return "\n\n".join([*lines, "\n".join(table)])


def _row(names: str, said: str) -> str:
    shown, meaning = (text.replace("|", "&#124;").replace("\n", " ") for text in (names, said))
    return f"| <code>{shown}</code> | {meaning} |"

"""What `mkdocs build` does beside turning Markdown into pages.

Commands and errors are described by the code itself. The files that are linked to come along, and a few examples as
pages of `maskdsl view`.
"""

import re
from html import escape
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from maskdsl.base import errors as catalogue
from maskdsl.base.diagnostics import Diagnostic
from maskdsl.cli.app import app
from maskdsl.cli.commands.view_page import PageRequest
from maskdsl.cli.request.shared_options import SharedOptions
from maskdsl.view.page.html import page_html
from maskdsl.view.palette import DARK, LIGHT

ROOT = Path(__file__).parents[1]
COMMANDS = "<!-- commands -->"
ERRORS = "<!-- errors -->"
OF_CODE = re.compile(r"\[([^\]]*)\]\(\.\./(?:maskdsl|codegen|grammar)/[^)]*\)")
"""Links to files of the repository that are no pages of the site."""
LINKED = ("examples/**/*.attn", "examples/*.ipynb", "examples/*.py", "grammar/std.attn")
TABLES = """
.md-typeset table:not([class]) { font-size: 0.6rem }
.md-typeset table:not([class]) :is(th, td) { min-width: 0; padding: 0.4em 0.6em }
.md-typeset table:not([class]) td { overflow-wrap: anywhere }
.md-typeset table:not([class]) td[style] { white-space: nowrap }
"""
"""The tables of the gallery have eight columns."""
SHOWN = {
    "longformer": ("examples/language/longformer.attn", ["longformer"]),
    "cswin": ("examples/vision/cswin.attn", ["cswin", "h=32", "w=32", "stripe=4"]),
    "na3": ("examples/vision/neighborhood.attn", ["na3", "t=8", "h=16", "w=16", "kernel=(3, 5, 5)"]),
}
"""Patterns that `page.md` shows, by the name of their page."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The examples and the standard library, as they are, and those that are shown as pages."""
    for path in sorted(path for pattern in LINKED for path in ROOT.glob(pattern)):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for name, (file, words) in SHOWN.items():
        models = PageRequest(SharedOptions(str(ROOT / file), words, heads=4)).build().models
        models[0]["source"]["file"] = file
        files.append(File.generated(config, f"pages/{name}.html", content=page_html(models, name)))
    files.append(File.generated(config, "palette.css", content=style()))
    return files


def style() -> str:
    """The colours of the palette, and tables as wide as their column."""
    rules = []
    for scheme, palette in (("default", LIGHT), ("slate", DARK)):
        values = {
            "--md-primary-fg-color": LIGHT.accent,
            "--md-primary-bg-color": LIGHT.card,
            "--md-typeset-a-color": palette.accent,
            "--md-accent-fg-color": palette.against,
            "--md-default-fg-color--light": palette.quiet,
            "--md-code-hl-number-color": palette.against,
            "--md-code-hl-constant-color": palette.accent,
        }
        declared = "; ".join(f"{name}: rgb({' '.join(map(str, colour))})" for name, colour in values.items())
        rules.append(f'[data-md-color-scheme="{scheme}"] {{ {declared} }}')
    return "\n".join([*rules, TABLES])


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository as links of the site, and the commands in their place."""
    markdown = re.sub(r"\[([^\]]*)\]\(\.\./examples\)", r"`\1`", markdown)
    markdown = OF_CODE.sub(r"\1", markdown)
    markdown = markdown.replace("](../examples/", "](examples/").replace("](docs/", "](")
    for position, made in ((COMMANDS, commands), (ERRORS, errors)):
        markdown = markdown.replace(position, made()) if position in markdown else markdown
    return markdown


def commands() -> str:
    """Every command with its arguments and options."""
    context = click.Context(app, info_name="maskdsl", **app.context_settings)
    return "\n\n".join(_command(name, command, context) for name, command in app.commands.items())


def _command(name: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [each.get_help_record(context) for each in command.params if not getattr(each, "hidden", False)]
    lines = [f"## {name}", _literal((command.help or "").strip()), f"```text\n{usage}\n```"]
    table = ["| argument or option | meaning |", "| --- | --- |", *(_row(*row) for row in rows if row is not None)]
    return "\n\n".join([*lines, "\n".join(table)])


def errors() -> str:
    """Every declared error by its code, in sections named by the docstrings of the catalogue's modules."""
    sections: list[tuple[str, str]] = []
    modules = walk_packages(catalogue.__path__, f"{catalogue.__name__}.")
    for module in (import_module(each.name) for each in modules if not each.ispkg):
        kinds = [
            each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__
        ]
        rows = sorted((each.code, each.message, each.help) for each in kinds if issubclass(each, Diagnostic))
        heading = re.match(
            r"(?:[EW]\w+(?:(?:,| and| to) \w+)*: )?((?:errors|warnings) .*?)\.(?:\s|$)", module.__doc__ or "", re.I
        )
        assert heading is not None, module
        lines = ["| code | message | what to do |", "| --- | --- | --- |"]
        lines += [f"| {' | '.join(map(_literal, row))} |" for row in rows]
        sections.append((rows[0][0], f"## {heading[1][0].upper()}{heading[1][1:]}\n\n" + "\n".join(lines)))
    return "\n\n".join(section for _, section in sorted(sections))


def _literal(template: str) -> str:
    """Words of the code as HTML: no part of them, such as `{name}` or `[NAME=VALUE]`, means anything to Markdown."""
    plain = re.sub(r"[|{}*_\[\]\\!]", lambda sign: f"&#{ord(sign[0])};", escape(template).replace("\n", " "))
    return re.sub("`([^`]*)`", r"<code>\1</code>", plain)


def _row(names: str, said: str) -> str:
    return f"| <code>{_literal(names)}</code> | {_literal(said)} |"

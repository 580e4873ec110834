"""Files as the command line names them: by a path, or by the name of an example."""

import re
from pathlib import Path

import click

import maskdsl
from maskdsl.base.attn_paths import nearest_file
from maskdsl.base.diagnostics import AttnError, nearest_name
from maskdsl.base.errors.commands.examples import UnknownExample

_NAME = re.compile(r"\w[\w-]*(/\w[\w-]*)?")
_LIKENESS = 0.7
"""Of a name to that of an example, to be suggested. There are so many examples that some are like any name."""


def example(name: str) -> Path | None:
    """The file of the example `longformer`, or `language/longformer`; None if there is none."""
    named = {key: path for full, path in maskdsl.examples().items() for key in (full, full.rpartition("/")[2])}
    return named.get(name)


def named_file(name: str) -> str:
    """The path of a file, or of the example of this name where there is no such file. Raises `AttnError` (E543)."""
    if not _NAME.fullmatch(name) or Path(name).exists():
        return name
    path = example(name)
    if path is None:
        known = [each.rpartition("/")[2] for each in maskdsl.examples()]
        nearest = nearest_file(Path(name), name) or nearest_name(name.rpartition("/")[2], known, _LIKENESS)
        raise AttnError(UnknownExample(name=name, nearest=nearest))
    return str(path)


def read_file(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """`named_file` as a callback of an argument."""
    return name if context.resilient_parsing else named_file(name)

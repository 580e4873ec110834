"""The files that the arguments of a command name: files themselves, and all `.attn` files in folders."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from maskdsl.base.attn_paths import SUFFIX
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NoFilesInFolder


def attn_files(paths: Sequence[str]) -> list[str]:
    """The paths, each once, with sorted files in place of folders. Raises `AttnError` (E571) for a folder without any.

    Folders are searched with those in them; hidden ones, hidden files, and links to folders are left out.
    """
    named = {path: [path] if not Path(path).is_dir() else sorted(_inside(path)) for path in paths}
    empty = [NoFilesInFolder(folder=path) for path, files in named.items() if not files]
    if empty:
        raise AttnError(*empty)
    return list(dict.fromkeys(file for files in named.values() for file in files))


def _inside(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for file in files:
            if file.endswith(SUFFIX) and not file.startswith("."):
                yield str(Path(parent) / file)

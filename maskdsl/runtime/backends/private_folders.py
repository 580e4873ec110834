"""New folders for files that a moment later are trusted: nobody else can enter them, or put another in their stead."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from maskdsl.base.cache import cache_directory, make_folder

_KNOWS_OWNERS = hasattr(os, "getuid")
"""False on Windows, where each user has a folder of temporary files."""


def guarded_folders() -> list[Path]:
    """Where such folders can be made: among temporary files, and in the cache. Raises OSError if nowhere."""
    folders = []
    with suppress(OSError):
        folders.append(Path(gettempdir()))
    with suppress(OSError):
        make_folder(cache_directory())
        folders.append(cache_directory())
    guarded = [each for each in folders if _is_guarded(each)]
    if not guarded:
        raise OSError("other users can replace what is in the folder of temporary files, and in the cache")
    return guarded


def _is_guarded(folder: Path) -> bool:
    """Whether only this user and the system can rename or remove what this user puts into a folder."""
    status = os.stat(folder)
    if not _KNOWS_OWNERS:
        return True
    is_shared = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX
    return status.st_uid in (0, os.getuid()) and not is_shared


@contextmanager
def private_folder(parent: Path) -> Iterator[Path]:
    """A new folder, which is gone afterwards with all that is in it."""
    with TemporaryDirectory(prefix="maskdsl_", dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)

"""Where things that can be made again are kept on disk. Imports nothing of the project.

The directory belongs to the user alone. What lies there is read only as a plain file that nobody else can have written,
found by no link: anything else at its name, a pipe or a device among it, is as if nothing were there.
"""

import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "MASKDSL_CACHE_DIR"
_LARGEST = 1 << 26
"""Bytes of a file that is read; what is kept here is far smaller."""
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_KNOWS_OWNERS = hasattr(os, "getuid")
"""Others, as Windows, keep the caches of users apart by themselves."""


def cache_directory() -> Path:
    """`MASKDSL_CACHE_DIR`, or the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else user_cache_path("maskdsl")


def write_whole(path: Path, content: bytes) -> bool:
    """Write a file at once or not at all, so that nobody reads half of it; False where nothing can be written."""
    try:
        _make_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except (OSError, ValueError):  # ValueError: a path with a zero byte
        return False
    return True


def read_whole(path: Path) -> bytes | None:
    """What `write_whole` wrote, if it is still there and nobody else can have written it."""
    try:
        if not _KNOWS_OWNERS:
            return path.read_bytes() if path.is_file() else None
        folder = os.open(path.parent, _FOLDER_FLAGS)
        try:
            handle = os.open(path.name, _FILE_FLAGS, dir_fd=folder) if _is_private(folder) else None
        finally:
            os.close(folder)
        if handle is None:
            return None
        with os.fdopen(handle, "rb") as file:  # looked at once it is open: another cannot take its place
            status = os.fstat(handle)
            readable = stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST and _is_private(handle)
            return file.read() if readable else None
    except (OSError, ValueError):
        return None


def keep(name: str, content: bytes) -> None:
    """Keep `content` for later processes, if that is possible here."""
    write_whole(cache_directory() / name, sha256(content).digest() + content)


def kept(name: str) -> bytes | None:
    """What `keep` kept under this name, if it is whole and nobody else can have written it."""
    stored = read_whole(cache_directory() / name)
    if stored is None:
        return None
    digest, content = stored[:32], stored[32:]
    return content if sha256(content).digest() == digest else None


def _make_folder(folder: Path) -> None:
    """A folder for the user alone, as are those above it that have to be made."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def _is_private(handle: int) -> bool:
    """Owned by this user and writable by nobody else."""
    status = os.fstat(handle)
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

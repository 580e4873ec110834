"""The cache on disk, for things that can be made again. Imports nothing of the project.

The directory is private to the user. Only regular files that no other user can have written are read; links, pipes,
devices and everything else count as missing.
"""

import os
import stat
from hashlib import sha256
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "MASKDSL_CACHE_DIR"
_LARGEST = 1 << 26
"""The most bytes that are read of a file; entries are far smaller."""
_FOLDER_FLAGS = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_KNOWS_OWNERS = hasattr(os, "getuid")
"""False on Windows, where the system itself keeps the caches of users apart."""


def cache_directory() -> Path:
    """The directory named by `MASKDSL_CACHE_DIR`, or a folder in the user's cache directory."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else user_cache_path("maskdsl")


def make_folder(folder: Path) -> None:
    """Makes a folder that only the user can enter, and the missing folders above it."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def write_whole(path: Path, content: bytes) -> bool:
    """Writes a file atomically, so that nobody reads half of it. Returns False if it cannot be written."""
    import tempfile  # start-up time

    try:
        make_folder(path.parent)
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
    """The bytes that `write_whole` wrote; None if they are gone, or if another user could have written them."""
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
        with os.fdopen(handle, "rb") as file:  # checked after opening, so that no other file can replace it
            status = os.fstat(handle)
            readable = stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST and _is_private(handle)
            return file.read() if readable else None
    except (OSError, ValueError):
        return None


def keep(name: str, content: bytes) -> None:
    """Stores `content` in the cache, with its digest, if the cache can be written."""
    write_whole(cache_directory() / name, sha256(content).digest() + content)


def kept(name: str) -> bytes | None:
    """The content that `keep` stored under this name; None if it is missing, damaged, or possibly another user's."""
    stored = read_whole(cache_directory() / name)
    if stored is None:
        return None
    digest, content = stored[:32], stored[32:]
    return content if sha256(content).digest() == digest else None


def _is_private(handle: int) -> bool:
    """Whether a file or folder is owned by this user, and writable by nobody else."""
    status = os.fstat(handle)
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

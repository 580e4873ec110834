"""Where things that can be made again are kept on disk. Imports nothing of the project.

The directory belongs to the user alone; what is unsafe to read from others is read only when it does.
"""

import os
import stat
import tempfile
from hashlib import sha256
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "MASKDSL_CACHE_DIR"


def cache_directory() -> Path:
    """`MASKDSL_CACHE_DIR`, or the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    return Path(chosen) if chosen else user_cache_path("maskdsl")


def write_whole(path: Path, content: bytes) -> bool:
    """Write a file at once or not at all, so that nobody reads half of it; False where nothing can be written."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError:
        return False
    return True


def keep(name: str, content: bytes) -> None:
    """Keep `content` for later processes, if that is possible here."""
    write_whole(cache_directory() / name, sha256(content).digest() + content)


def kept(name: str) -> bytes | None:
    """What `keep` kept under this name, if it is whole and nobody else can have written it."""
    path = cache_directory() / name
    try:
        if not (_is_private(path.parent) and _is_private(path)):
            return None
        stored = path.read_bytes()
    except OSError:
        return None
    digest, content = stored[:32], stored[32:]
    return content if sha256(content).digest() == digest else None


def _is_private(path: Path) -> bool:
    """Owned by this user and writable by nobody else, as far as the system tells."""
    if not hasattr(os, "getuid"):
        return True
    status = path.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

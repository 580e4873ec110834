"""Loads generated text as a module, and shows it to debuggers: on disk under the hash of the text, and in linecache.

What runs is always the text itself, compiled here. The file is for debuggers and readers only, so a tampered or
half-written file does no harm. Modules are cached per process.
"""

import hashlib
import linecache
import re
from functools import lru_cache
from io import StringIO
from pathlib import Path
from types import ModuleType

from maskdsl.base.cache import cache_directory, read_whole, write_whole


@lru_cache(maxsize=256)
def load_module(text: str, name: str) -> ModuleType:
    """Compiles and runs a generated text. `name`, of the pattern and the backend, becomes part of the module's name."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    file_name = f"{re.sub(r'[^A-Za-z0-9_]+', '_', name)}_{digest}"
    path = stored(text, f"{file_name}.py")
    origin = str(path) if path is not None else f"<maskdsl {file_name}>"
    # Without a modification time linecache never drops the entry, so tracebacks and inspect show the text.
    # StringIO splits at newlines only, as Python does: `splitlines` breaks at other characters and would shift lines.
    linecache.cache[origin] = (len(text), None, [*StringIO(text, newline="\n")], origin)
    module = ModuleType(f"maskdsl_generated.{file_name}", text)
    module.__file__ = origin
    exec(compile(text, origin, "exec"), module.__dict__)
    return module


def stored(text: str, file_name: str) -> Path | None:
    """Writes the text to the cache and returns its path; None where the cache cannot be written."""
    path = cache_directory() / "modules" / file_name
    content = text.encode()
    return path if read_whole(path) == content or write_whole(path, content) else None

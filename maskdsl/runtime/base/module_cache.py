"""Generated text to a module: on disk under the hash of its own text, in linecache, in a bounded cache of this process.

What runs is always the text itself, compiled here; the file is there for debuggers and readers, so that a
tampered or half-written file can do no harm.
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
    """The module of a generated text; `name` says which pattern and backend it comes from."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    file_name = f"{re.sub(r'[^A-Za-z0-9_]+', '_', name)}_{digest}"
    path = stored(text, f"{file_name}.py")
    origin = str(path) if path is not None else f"<maskdsl {file_name}>"
    # No modification time: an entry that linecache never drops, so that tracebacks and inspect show the text.
    # Its lines are Python's: other characters that `splitlines` breaks at would shift all that is below them.
    linecache.cache[origin] = (len(text), None, [*StringIO(text, newline="\n")], origin)
    module = ModuleType(f"maskdsl_generated.{file_name}", text)
    module.__file__ = origin
    exec(compile(text, origin, "exec"), module.__dict__)
    return module


def stored(text: str, file_name: str) -> Path | None:
    """The file that holds the text; None where nothing can be written."""
    path = cache_directory() / "modules" / file_name
    content = text.encode()
    return path if read_whole(path) == content or write_whole(path, content) else None

"""The tree of the standard library. It is cached on disk: parsing it takes ten times as long as reading the tree."""

import pickle
import sys
from functools import cache
from hashlib import sha256
from importlib.resources import files

from maskdsl.base.cache import keep, kept
from maskdsl.base.source import Source
from maskdsl.syntax import tree
from maskdsl.syntax.parse import parse

_MAKERS = {
    "maskdsl.base": ("records.py", "source.py"),
    "maskdsl.syntax": ("build.py", "comments.py", "parse.py", "tree.py"),
    "maskdsl.grammar": ("attn.lark", "std.attn"),
}
"""The files that decide what the tree is and how it is pickled."""


@cache
def standard_library() -> tree.File:
    """The tree of `grammar/std.attn`."""
    texts = {
        name: files(package).joinpath(name).read_text(encoding="utf-8")
        for package, names in _MAKERS.items()
        for name in names
    }
    digest = sha256(f"{texts}\n{sys.version_info[:2]}".encode()).hexdigest()
    name = f"standard_{digest[:24]}.tree"
    content = kept(name)
    known = None if content is None else _loaded(content)
    if known is not None:
        return known
    made = parse(Source("std.attn", texts["std.attn"]))
    keep(name, pickle.dumps(made))
    return made


def _loaded(content: bytes) -> tree.File | None:
    """The tree of cached content; None if it is unusable."""
    try:
        known = pickle.loads(content)
    except Exception:
        return None
    return known if isinstance(known, tree.File) else None

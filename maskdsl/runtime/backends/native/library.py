"""The compiled `codegen/native.c`, a text loaded once in a process: from the cache, or compiled now. Imports no torch.

What is loaded are bytes that were checked, from a file that this user alone can write: the cache keeps the library with
its digest, under a hash of all that it depends on, and a copy is loaded from a new folder.
"""

import os
from contextlib import suppress
from ctypes import CDLL
from functools import cache
from hashlib import sha256
from pathlib import Path

from maskdsl.base.cache import keep, kept
from maskdsl.base.records import dataclass
from maskdsl.base.text import printable
from maskdsl.emit.native_scores import plain_native
from maskdsl.runtime.backends.native.c_compiler import (
    CCompiler,
    NoLibrary,
    c_compiler,
    flags,
    processor,
    shared_library,
)
from maskdsl.runtime.backends.private_folders import guarded_folders, private_folder

VARIABLE = "MASKDSL_NATIVE"
"""Set to 0 it forbids to compile and to load."""


@dataclass(frozen=True)
class NativeLibrary:
    """The functions of `codegen/native.c`, or why there are none."""

    functions: CDLL | None
    compiler: str
    """Its command; empty where there is none."""
    is_cached: bool
    """Whether the library came from the cache."""
    why_not: str
    """One line: why there are no functions; empty if there are."""
    advice: str
    """One line: what to do about it."""


def library() -> CDLL | None:
    """The functions of `codegen/native.c`; None where they cannot be compiled or loaded, or `MASKDSL_NATIVE` is 0."""
    return native_library().functions


@cache
def native_library() -> NativeLibrary:
    """The same, with the compiler, and the reason if there are none. Compiles them, if they are not in the cache.

    A process does so once; the other threads of a process that does so meanwhile compile them too, and no child waits
    for a thread that it does not have.
    """
    return library_of(plain_native().text)


def library_of(text: str) -> NativeLibrary:
    """The library of a text whose holes are filled, if it can be compiled and loaded."""
    compiler = ""
    try:
        if os.environ.get(VARIABLE, "").strip() == "0":
            raise NoLibrary(f"{VARIABLE} is 0", f"unset {VARIABLE} to compile kernels for the CPU")
        chosen = c_compiler()
        compiler = chosen.name
        functions, is_cached = _functions(text, chosen)
    except NoLibrary as reason:
        return NativeLibrary(None, compiler, False, reason.why, reason.advice)
    return NativeLibrary(functions, compiler, is_cached, "", "")


def _functions(text: str, compiler: CCompiler) -> tuple[CDLL, bool]:
    """Loads what was compiled of the text, and says whether it was cached. Raises `NoLibrary` if that cannot be."""
    name = f"native/{_key(text, compiler)}"
    cached = kept(name)
    if cached is not None:
        with suppress(OSError):
            return _loaded(cached), True
    content = shared_library(text, compiler)
    keep(name, content)
    try:
        return _loaded(content), False
    except OSError as error:
        why = f"what {compiler.name} made cannot be loaded: {printable(str(error))}"
        raise NoLibrary(why, "set TMPDIR to a folder from which libraries may be loaded") from error


def _key(text: str, compiler: CCompiler) -> str:
    """A hash of all that the compiled library depends on."""
    depends_on = (text, compiler.identity, flags(), processor())
    return sha256(repr(depends_on).encode()).hexdigest()[:32]


def _loaded(content: bytes) -> CDLL:
    """The functions of a shared library. Raises OSError if it cannot be loaded.

    The file is gone afterwards. Where none may be loaded from the folder of temporary files, the cache is tried.
    """
    *others, last = guarded_folders()
    for each in others:
        with suppress(OSError):
            return _loaded_in(each, content)
    return _loaded_in(last, content)


def _loaded_in(parent: Path, content: bytes) -> CDLL:
    with private_folder(parent) as folder:
        path = folder / "native.so"
        path.write_bytes(content)
        return CDLL(str(path))

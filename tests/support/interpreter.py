"""Triton's interpreter in half the time. What it computes stays as it is.

In each call of a function of a kernel it puts functions of its own in place of `triton.language`, and for each
operation it makes a table of types: here once, as every kernel of a process is interpreted, or none. Of integers it
computes in 64 bits whether they have left theirs, and without `debug` asks nobody for the answer: here it does not.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from types import ModuleType
from typing import Any

import triton.language as tl


class _Kept:
    """In place of what would undo the change."""

    def restore(self) -> None:
        pass


def hasten(interpreter: ModuleType) -> None:
    """Versions of Triton that have other names for these stay as fast as they are."""
    if hasattr(interpreter, "_patch_lang"):
        interpreter._patch_lang = _once(interpreter._patch_lang)
    if hasattr(interpreter, "_get_np_dtype"):
        interpreter._get_np_dtype = _by_scalar(interpreter._get_np_dtype)
    builder = getattr(interpreter, "interpreter_builder", None)
    if hasattr(builder, "options") and not builder.options.debug and hasattr(builder.options, "sanitize_overflow"):
        builder.options = replace(builder.options, sanitize_overflow=False)


def _once(patch: Callable[[Any], object]) -> Callable[[Any], _Kept]:
    """For each set of modules that a function may see."""
    done = set[tuple[bool, bool]]()

    def patched(function: Any) -> _Kept:
        seen = list(function.__globals__.values())
        modules = any(each is tl for each in seen), any(each is tl.core for each in seen)
        if modules not in done:
            done.add(modules)
            patch(function)
        return _Kept()

    return patched


def _by_scalar(find: Callable[[Any], object]) -> Callable[[Any], object]:
    """A block has the type in NumPy of its elements."""
    known = lru_cache(maxsize=None)(find)

    def found(kind: Any) -> object:
        scalar = kind.scalar
        return find(scalar) if isinstance(scalar, tl.pointer_type) else known(scalar)

    return found

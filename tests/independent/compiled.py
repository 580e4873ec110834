"""Which calls the kernels in C computed: their functions are watched where they are loaded."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ctypes import CDLL
from unittest.mock import patch

from maskdsl.runtime.backends.native import native_backend
from maskdsl.runtime.backends.native.library import library

FUNCTIONS = ("maskdsl_forward", "maskdsl_backward")


@contextmanager
def watched(backend: str) -> Iterator[Counter[str]]:
    """How often each function gives a result to this backend; not where it reports that others have to compute it.

    Functions of one pattern are watched from when calls ask for them.
    """
    counts, seen = Counter[str](), set[CDLL]()
    with ExitStack() as stack:

        def watch(functions: CDLL | None) -> CDLL | None:
            if functions is not None and functions not in seen:
                seen.add(functions)
                for name in FUNCTIONS:
                    counted = counting(getattr(functions, name), name, counts)
                    stack.enter_context(patch.object(functions, name, counted))
            return functions

        if backend == "native":
            watch(library())
            filled = native_backend.filled_functions
            stack.enter_context(patch.object(native_backend, "filled_functions", lambda text: watch(filled(text))))
        yield counts


def counting(function: Callable[[object], int], name: str, counts: Counter[str]) -> Callable[[object], int]:
    def called(call: object) -> int:
        fault = function(call)
        counts[name] += not fault
        return fault

    return called

"""Which calls the kernels in C computed: their functions are watched where they are loaded."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from maskdsl.runtime.backends.native.library import library

FUNCTIONS = ("maskdsl_forward", "maskdsl_backward")


@contextmanager
def watched(backend: str) -> Iterator[Counter[str]]:
    """How often each function gives a result to this backend; not where it reports that others have to compute it."""
    counts, functions = Counter[str](), library() if backend == "native" else None
    with ExitStack() as stack:
        for name in FUNCTIONS if functions is not None else ():
            stack.enter_context(patch.object(functions, name, counting(getattr(functions, name), name, counts)))
        yield counts


def counting(function: Callable[[object], int], name: str, counts: Counter[str]) -> Callable[[object], int]:
    def called(call: object) -> int:
        fault = function(call)
        counts[name] += not fault
        return fault

    return called

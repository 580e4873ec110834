"""A cache of what is made once and serves many calls, independent of the mode of the call that makes it.

Inference mode, autocast, levels of `torch.func`, modes such as `FakeTensorMode` and the default device belong to a
thread at a moment: a tensor made under one of them would be useless or wrong in the next call.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import RLock
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def _dispatch_keys() -> tuple[Any, Any]:
    """The dispatch keys that this thread adds to those of its tensors, and those that it excludes."""
    return torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()


with ThreadPoolExecutor(1) as new_thread:
    PLAIN = new_thread.submit(_dispatch_keys).result()
    """The dispatch keys of a thread in no mode."""


@contextmanager
def in_no_mode() -> Iterator[None]:
    """A context in which operations make ordinary tensors without gradients, whatever modes the thread is in."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch._C.DisableTorchFunction(),
        torch._C._ForceDispatchKeyGuard(*PLAIN),
    ):
        yield


class Kept:
    """A thread-safe cache. A key names everything that its value depends on."""

    def __init__(self) -> None:
        self.kept: dict[object, Any] = {}
        self.lock = RLock()  # making one value may ask for another

    def keep(self, key: object, make: Callable[[], T]) -> T:
        """The value of this key; made now, in no mode, if it is new."""
        with self.lock:
            if key not in self.kept:
                with in_no_mode():
                    self.kept[key] = make()
            value: T = self.kept[key]
            return value


class _NothingKept(Kept):
    """Keeps nothing, for calls of which nothing is known."""

    def keep(self, key: object, make: Callable[[], T]) -> T:
        return make()


NOTHING_KEPT = _NothingKept()

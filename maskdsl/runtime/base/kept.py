"""What is made once and serves many calls, whatever mode the call is in that makes it.

Inference mode, autocast, levels of `torch.func`, modes such as `FakeTensorMode` and the default device are those of a
thread at a moment: a tensor made under them would be useless or wrong in the next call.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import RLock
from typing import Any, TypeVar

import torch

T = TypeVar("T")


def _dispatch_keys() -> tuple[Any, Any]:
    """Which of torch's layers operations of this thread pass through, beside those of their tensors, and which not."""
    return torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()


with ThreadPoolExecutor(1) as new_thread:
    PLAIN = new_thread.submit(_dispatch_keys).result()
    """Those of a thread in no mode at all."""


@contextmanager
def in_no_mode() -> Iterator[None]:
    """Operations make ordinary tensors, without gradients, as if the thread were in no mode."""
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch._C.DisableTorchFunction(),
        torch._C._ForceDispatchKeyGuard(*PLAIN),
    ):
        yield


class Kept:
    """What was made, by a key that names all that it depends on. Safe to share between threads."""

    def __init__(self) -> None:
        self.kept: dict[object, Any] = {}
        self.lock = RLock()  # what is kept may be made of other things kept

    def keep(self, key: object, make: Callable[[], T]) -> T:
        """What was made under this key before, or is made now, in no mode."""
        with self.lock:
            if key not in self.kept:
                with in_no_mode():
                    self.kept[key] = make()
            value: T = self.kept[key]
            return value

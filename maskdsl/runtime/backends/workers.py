"""A pool of threads that compute tiles in parallel, each with its share of the cores.

With torch's parallelism inside each operation, all cores would wait for the slowest one hundreds of times per call.
Here every thread takes tile after tile and computes it alone.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")

_MOST = 8
"""The most threads: more would contend for Python's interpreter lock. With more cores, each thread gets several."""


def for_each(function: Callable[[T], object], items: Iterable[T]) -> None:
    """Calls the function for all items, in no order, on as many cores as torch may use. Raises the first error."""
    count = min(torch.get_num_threads(), _MOST)
    pool = _workers(os.getpid(), count, torch.get_num_threads() // count) if count > 1 else None
    if pool is None:
        one_by_one(function, items)
        return
    iterator, lock = iter(items), Lock()
    errors: list[BaseException] = []
    inference = torch.is_inference_mode_enabled()

    def work() -> None:
        with torch.inference_mode(inference), torch.no_grad():
            while not errors:
                with lock:
                    item = next(iterator, None)
                if item is None:
                    return
                try:
                    function(item)
                except BaseException as error:
                    errors.append(error)

    for future in [pool.submit(work) for _ in range(count)]:
        future.result()
    if errors:
        raise errors[0]


def one_by_one(function: Callable[[T], object], items: Iterable[T]) -> None:
    """Calls the function for all items in order, in this thread."""
    for item in items:
        function(item)


@lru_cache(maxsize=4)
def _workers(process: int, count: int, cores: int) -> ThreadPoolExecutor | None:
    """`count` threads whose torch operations use `cores` cores each; None where torch has no per-thread setting."""
    before = torch.get_num_threads()
    started = Barrier(count + 1)
    seen: list[int] = []

    def start() -> None:
        torch.get_num_threads()  # initializes this thread's number, which can only be changed afterwards
        torch.set_num_threads(cores)  # for this thread, and for threads started from now on
        started.wait()
        seen.append(torch.get_num_threads())
        started.wait()

    pool = ThreadPoolExecutor(count, thread_name_prefix="maskdsl")
    waiting = [pool.submit(start) for _ in range(count)]
    started.wait()
    torch.set_num_threads(before)
    started.wait()
    for future in waiting:
        future.result()
    return pool if seen == [cores] * count and torch.get_num_threads() == before else None

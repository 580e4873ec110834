"""Threads that compute tiles side by side, each with its own share of the cores.

One parallel region a tile operation, as torch has it, would make all cores wait for the slowest of them hundreds of
times a call. Here every thread takes tile after tile and computes it alone.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier, Lock
from typing import TypeVar

import torch

T = TypeVar("T")

MOST = 8
"""More threads than these would wait for the interpreter; beyond, each gets several cores."""


def for_each(function: Callable[[T], object], items: Iterable[T]) -> None:
    """Calls the function for all items, in no order, on the cores that torch may use."""
    count = min(torch.get_num_threads(), MOST)
    pool = _workers(os.getpid(), count, torch.get_num_threads() // count) if count > 1 else None
    if pool is None:
        one_by_one(function, items)
        return
    iterator, lock = iter(items), Lock()
    failed: list[BaseException] = []
    inference = torch.is_inference_mode_enabled()

    def work() -> None:
        with torch.inference_mode(inference), torch.no_grad():
            while not failed:
                with lock:
                    item = next(iterator, None)
                if item is None:
                    return
                try:
                    function(item)
                except BaseException as error:
                    failed.append(error)

    for future in [pool.submit(work) for _ in range(count)]:
        future.result()
    if failed:
        raise failed[0]


def one_by_one(function: Callable[[T], object], items: Iterable[T]) -> None:
    for item in items:
        function(item)


@lru_cache(maxsize=4)
def _workers(process: int, count: int, cores: int) -> ThreadPoolExecutor | None:
    """`count` threads whose torch operations use `cores` cores each; None where torch does not keep this apart."""
    before = torch.get_num_threads()
    started = Barrier(count + 1)
    seen: list[int] = []

    def start() -> None:
        torch.get_num_threads()  # a thread's first question sets its number; only then can it be changed
        torch.set_num_threads(cores)  # of this thread, and of threads that begin from now on
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

"""Programs of tests in processes of their own, in which kernels are interpreted.

They are forks of one process that has imported what all of them need.
"""

import io
import os
import runpy
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from functools import cache
from multiprocessing import forkserver, get_context
from unittest.mock import patch


def last_line(program: str, *arguments: object) -> str:
    """Of what `python -m tests.PROGRAM` prints where kernels are interpreted. Fails where it does."""
    return _processes().submit(_run, f"tests.{program}", *map(str, arguments)).result(timeout=600)


@cache
def _processes() -> ProcessPoolExecutor:
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "triton", "maskdsl.api.verify", "maskdsl.testing"])
    with patch.dict(os.environ, TRITON_INTERPRET="1"):
        forkserver.ensure_running()
    return ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1)


def _run(module: str, *arguments: str) -> str:
    sys.argv = [module, *arguments]
    with redirect_stdout(io.StringIO()) as printed:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    return printed.getvalue().splitlines()[-1]

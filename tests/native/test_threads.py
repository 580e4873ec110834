"""The threads of calls: more of them than rows, those of torch, and none of them in a forked child."""

import os
from collections.abc import Callable
from ctypes import CDLL, CFUNCTYPE, c_uint, c_void_p

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.native.library import library

CAUSAL = "pattern p(n) {\n    space t[n]\n    attend causal\n}"
SEGMENTS = """pattern p(n) {
    space t[n]
    coord block = i // 16
    route past = topk(1, dot(q, mean(k by block))) where k.block < q.block
    attend causal and (past or same(block))
}"""


@pytest.mark.skipif(library() is None, reason="no C compiler works here")
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("n", [1, 17, 1500])
def test_results_do_not_depend_on_threads(threads: int, n: int) -> None:
    torch.manual_seed(n)
    mask = maskdsl.parse(SEGMENTS)["p"].bind(n=n, heads=4)
    leaves = [torch.randn(1, heads, n, 16, requires_grad=True) for heads in (4, 2, 2)]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = mask.compile("native")(*leaves)
        found = [out, *torch.autograd.grad(out.sin().sum(), leaves)]
    finally:
        torch.set_num_threads(before)
    out = mask.compile("reference")(*leaves)
    torch.testing.assert_close(found, [out, *torch.autograd.grad(out.sin().sum(), leaves)], rtol=2e-5, atol=2e-5)


@pytest.mark.skipif(library() is None, reason="no C compiler works here")
@pytest.mark.timeout(60)
def test_a_forked_child_needs_no_thread_of_its_parent() -> None:
    """The pool of torch's threads is gone there: who waits for them waits for ever."""
    mask = maskdsl.parse(CAUSAL)["p"].bind(n=900, heads=4)
    q, attention = torch.randn(1, 4, 900, 32), mask.compile("native")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = attention(q, q, q)
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(attention(q, q, q), expected) else 1)  # torch.equal would wait
    finally:
        torch.set_num_threads(before)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


GNU = "GOMP_parallel"


@pytest.mark.skipif(library() is None, reason="no C compiler works here")
@pytest.mark.skipif(not hasattr(CDLL(torch._C.__file__), GNU), reason="torch has no threads of GNU OpenMP")
def test_torchs_own_threads_take_the_rows() -> None:
    """Others would wait for them, as they keep their processors busy for a while after each operation."""
    mask = maskdsl.parse(CAUSAL)["p"].bind(n=900, heads=4)
    q, attention = torch.randn(1, 4, 900, 32), mask.compile("native")
    attention(q, q, q)
    functions, calls = library(), list[tuple[int, int]]()
    team = CFUNCTYPE(None, CFUNCTYPE(None, c_void_p), c_void_p, c_uint, c_uint)

    def parallel(work: Callable[[int], None], context: int, threads: int, flags: int) -> None:
        calls.append((threads, flags))
        work(context)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    counted = team(parallel)
    functions.maskdsl_use_pool(counted)
    try:
        attention(q, q, q)
    finally:
        torch.set_num_threads(before)
        functions.maskdsl_use_pool(getattr(CDLL(torch._C.__file__), GNU))
    assert calls and set(calls) == {(3, 0)}

"""Calls of segments, whose rows are counted by segments, with more threads than rows."""

import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.native.library import library

TEXT = """pattern p(n) {
    space t[n]
    coord block = i // 16
    route past = topk(1, dot(q, mean(k by block))) where k.block < q.block
    attend causal and (past or same(block))
}"""


@pytest.mark.skipif(library() is None, reason="no C compiler works here")
@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("n", [1, 17, 300])
def test_results_do_not_depend_on_threads(threads: int, n: int) -> None:
    torch.manual_seed(n)
    mask = maskdsl.parse(TEXT)["p"].bind(n=n, heads=4)
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

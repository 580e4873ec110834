"""Relations that read the query alone, or the key alone: their pairs are those of the reference backend."""

import pytest
import torch

import maskdsl
from maskdsl.runtime.backends.native.library import library

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")


@pytest.mark.parametrize("attends", ["q % 2 == 0", "k % 3 == 0", "q % 2 == 0 and k % 3 == 0", "q == 5 or q > 70"])
@pytest.mark.parametrize("n", [7, 100])
def test_one_sided_relations(attends, n):
    mask = maskdsl.parse(f"pattern some(n) {{ space tokens[n] attend {attends} }}")["some"].bind(n=n)
    tensors = torch.randn(3, 1, 2, n, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    results = [mask.compile(name)(*tensors) for name in ("native", "reference")]
    torch.testing.assert_close(*results)
    grads = [torch.autograd.grad(each.sum(), tensors)[0] for each in results]
    torch.testing.assert_close(*grads)

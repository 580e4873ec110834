"""Run in a process of its own, with TRITON_INTERPRET=1: tables read at indices that inputs decide.

Rows that read outside a table are NaN, all others unaffected. Prints `agreed` at the end; any difference raises.
"""

import torch

import maskdsl
from maskdsl.runtime.kernels.open_reads import OpenReads
from tests.support.open_reads import MODULE, documents, leaves, plain, vectors


def check_documents(attention: maskdsl.Attention, size: int) -> None:
    """Compares with plain torch; gradients too where documents are no longer than the tables."""
    q, k, v, bias, gain = given = leaves()
    found = attention(q, k, v, document=documents(size), bias=bias, gain=gain)
    expected = plain(*given, documents(size))
    torch.testing.assert_close(found, expected, equal_nan=True)
    if not expected.isnan().any():
        pairs = zip(torch.autograd.grad(found.sum(), given), torch.autograd.grad(expected.sum(), given), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other)


def check_relation() -> None:
    """A pair whose relation reads an element outside the table does not attend."""
    q, k, v = vectors(40)
    g, w = torch.arange(40) % 7 - 1, torch.tensor([1.0, 20.0, 2.0, 30.0])
    attends = torch.isin(g, torch.tensor([0, 2])) | torch.eye(40, dtype=torch.bool)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attends)
    torch.testing.assert_close(MODULE["by_float"].bind(heads=2).compile("triton")(q, k, v, g=g, w=w), expected)


if __name__ == "__main__":
    OpenReads.check = lambda *_, **__: None  # type: ignore[assignment]  # tensors of a GPU are not looked at either
    attention = MODULE["documents"].bind(heads=2).compile("triton")
    for size in (6, 8):
        check_documents(attention, size)
    check_relation()
    print("agreed")

"""Run in a process of its own, with TRITON_INTERPRET=1: the decoding kernel on selections for some of the queries."""

import torch

from maskdsl.runtime.kernels import split_kernel
from tests.support.routed_parts import inputs, load, rows_of, tensors
from tests.triton.decoding import paged


def compare(name: str, file: str = "", length: int = 45, **parameters: int) -> None:
    """Contiguous keys and pages, against the tiled backend, which computes its own selections."""
    mask, (q, k, v), given = load(name, length, file, **parameters), tensors(length), inputs(name, length)
    lengths = torch.tensor([length, 7, 26])
    for entry, length in enumerate(lengths.tolist()):
        k[entry, :, length:], v[entry, :, length:] = torch.nan, torch.nan
    pages, table = paged((k, v))
    pages = [x.double() for x in pages]
    for count in (1, 5):
        where = {"query_start": lengths - count, "key_lengths": lengths}
        rows = rows_of(q, lengths - count, count)
        expected = mask.compile("tiled")(rows, k, v, **where, **given)
        attention, out = mask.compile("triton"), torch.full_like(expected, torch.nan)
        assert attention(rows, k, v, out=out, **where, **given) is out
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(attention(rows, *pages, page_table=table, **where, **given), expected)


if __name__ == "__main__":
    compare("pieces")
    compare("clustered")
    compare("moba", "moba", block=8, top=3)
    split_kernel.decode_block = lambda *_: (16, 64)  # as on GPUs: all bits of a word
    compare("knn", "knn", 70, top=5)
    print("agreed")

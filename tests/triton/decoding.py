"""Run in a process of its own, with TRITON_INTERPRET=1: the decoding kernel against rows of the full output.

Results, and keys past the end, are NaN before. Prints the names of the patterns that agreed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import maskdsl
from maskdsl.api.verify import draw, prepared
from maskdsl.ir.mask import Normalize
from maskdsl.runtime.backends.available import usable_backends
from tests.triton.interpreted import poisoned

PAGE = 8


def compare(mask: maskdsl.Mask, inputs: dict[str, Tensor], batch: int, key_heads: int, dims: tuple[int, int]) -> None:
    """Some queries, with one start for all entries and one for each; contiguous keys, pages, and pages of others.

    Of pages whose keys no query of the call attends, the table has others that hold NaN.
    """
    dim, value_dim = dims
    q = torch.randn(batch, mask.heads, mask.query_length, dim)
    k = torch.randn(batch, key_heads, mask.given_key_length, dim)
    v = torch.randn(batch, key_heads, mask.given_key_length, value_dim)
    attention = mask.compile("triton")
    has_lse = attention.has_lse
    whole = results(mask.compile("reference")(q, k, v, return_lse=has_lse, **inputs))
    pages, table = paged((k, v))
    attended = pairs(mask, inputs, batch)
    for count in {1, min(5, mask.query_length)}:
        last = mask.query_length - count
        for start in (last, torch.randint(0, last + 1, (batch,))):
            positions = torch.as_tensor(start).expand(batch)[:, None] + torch.arange(count)
            rows = q.take_along_dim(positions[:, None, :, None], dim=2)
            expected = [rows_of(x, positions, dim) for x, dim in zip(whole, (2, -1), strict=False)]
            once = attention(rows, k, v, return_lse=has_lse, query_start=start, **inputs)
            again = attention(rows, *pages, return_lse=has_lse, query_start=start, page_table=table, **inputs)
            stale = with_stale_pages(table, attended.take_along_dim(positions[:, None, :, None], dim=2))
            others = attention(rows, *pages, return_lse=has_lse, query_start=start, page_table=stale, **inputs)
            for found in (once, again, others):
                for one, other in zip(results(found), expected, strict=True):
                    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def pairs(mask: maskdsl.Mask, inputs: dict[str, Tensor], batch: int) -> Tensor:
    """The attending pairs, bool [batch, heads, queries, keys]."""
    arrays = {name: x.numpy() for name, x in inputs.items()}
    entries = [[mask.dense(head, entry, **arrays) for head in range(mask.heads)] for entry in range(batch)]
    return torch.as_tensor(np.array(entries))


def with_stale_pages(table: Tensor, attended: Tensor) -> Tensor:
    """The page table with a page of NaN for each page whose keys do not attend, [batch, heads, rows, keys]."""
    missing = min(set(range(table.numel() + 3)) - set(table.flatten().tolist()))
    room = torch.nn.functional.pad(attended.any(dim=2).any(dim=1), (0, table.shape[1] * PAGE - attended.shape[3]))
    return table.where(room.unflatten(1, (-1, PAGE)).any(dim=2), missing)


def results(found: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """The output, and the log-sum-exp if there is one."""
    return found if isinstance(found, tuple) else (found,)


def rows_of(x: Tensor, positions: Tensor, dim: int) -> Tensor:
    """`x` at positions [batch, count] along a dimension."""
    shape = [len(positions), *[1] * (x.dim() - 1)]
    shape[dim] = positions.shape[1]
    return x.take_along_dim(positions.reshape(shape), dim=dim)


def in_whole_sequences_only(mask: maskdsl.Mask) -> bool:
    ir = mask.ir
    return bool(ir.routed) or ir.queries.is_pooled or ir.normalize is Normalize.BY_KEY


def paged(tensors: tuple[Tensor, Tensor]) -> tuple[list[Tensor], Tensor]:
    """Keys and values in random pages, strided as in serving engines; all other memory is NaN. Returns a page table."""
    batch, heads, length, _ = tensors[0].shape
    count = -(-length // PAGE)
    table = torch.randperm(batch * count + 3)[: batch * count].view(batch, count).to(torch.int32)
    found = []
    for x in tensors:
        pages = torch.full((batch * count + 3, PAGE, heads, x.shape[3]), torch.nan).transpose(1, 2)
        for entry in range(batch):
            for number in range(count):
                part = x[entry, :, number * PAGE : (number + 1) * PAGE]
                pages[table[entry, number], :, : part.shape[1]] = part
        found.append(pages)
    return found, table


def main(files: list[str]) -> None:
    assert "triton" in usable_backends()
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    agreed = []
    for number, file in enumerate(files):
        module = maskdsl.load(file)
        for name in module:
            case = draw(module[name], np.random.default_rng(number), {})
            found = prepared(module[name], case)
            assert found is not None
            mask, arrays, *_ = found
            if in_whole_sequences_only(mask):
                continue
            inputs = {each: torch.as_tensor(values) for each, values in arrays.items()}
            compare(mask, inputs, case.batch, case.key_heads, (case.dim, 24))
            agreed.append(f"{Path(file).stem}.{name}")
    print(json.dumps(agreed))


if __name__ == "__main__":
    main(sys.argv[1:])

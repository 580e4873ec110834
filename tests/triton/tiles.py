"""Run in a process of its own, with TRITON_INTERPRET=1: the tiles that kernels find, against the exact ones.

Lists hold nonsense before. The argument is how many random patterns whose kernels find tiles are compared. Prints the
numbers of tiles compared and of tiles that are partial without need; a tile that is missed, visited twice or wrongly
full raises.
"""

import json
import sys
from typing import Any

import numpy as np
import torch

import maskdsl
from maskdsl.analysis.tiles.block_map import EMPTY, FULL, PARTIAL
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.runtime.compile import compile_mask
from maskdsl.testing import inputs_for, patterns
from tests.support.properties import sample

TEXT = """
pattern packed(n = 150) { space t[n]  input document: int[batch, tokens]  attend causal and same(document) }
pattern cut(n = 90) { space t[n]  input cut: int[batch, heads]  attend k < cut[batch, head] or q - k < 3 }
pattern level(n = 70) { space t[n]  input level: float[tokens]  attend q.level >= k.level }
pattern every(n) { space t[n]  input mark: bool[tokens]  attend k.mark }
pattern laid_out(h = 9, w = 7, size = 3) {
    space image[y = h, x = w]
    space text[20]
    tokens text ++ image
    input group: int[heads, image]
    attend text -> all
    attend image -> image where window((size, size)) and q.group == k.group
    order image by y // 4, x // 4
}
"""


def visited(rows: torch.Tensor, runs: torch.Tensor, number: int, columns: int) -> np.ndarray:
    """How often each tile of one row is in its runs."""
    count = np.zeros(columns, dtype=int)
    first, behind, size = rows.view(-1, 3)[number].tolist()
    for start, end, step in runs[first:behind].tolist():
        assert 0 <= start < end <= columns and step > 0, (start, end, step)
        count[start:end:step] += 1
    assert count.sum() == size
    assert behind < len(runs), "nothing to read ahead"
    return count


def compare(mask: maskdsl.Mask, inputs: dict[str, np.ndarray], block: tuple[int, int], batch: int) -> tuple[int, int]:
    """The numbers of tiles compared and of tiles that are partial without need."""
    assert all(size.bit_count() == 1 for size in block), "kernels have tiles of powers of two"
    attention = compile_mask(mask.ir, "triton")
    if not attention._compiled.plan.finds_device_tiles:
        return 0, 0
    tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
    q = torch.empty(batch, mask.heads, mask.query_length, 1)
    given = [tensors[each.source or each.name] for each in mask.ir.inputs]
    call = attention._compiled.default_kernel.call(given, q, False)
    call.module.ROWS = call.module.LISTS = call.module.ORDERED = 4
    call.module.SMALLEST = min(block)
    exact = tiles(mask.ir, block, inputs, batch)
    shape = batch, mask.heads, mask.heads, mask.query_length, mask.key_length
    bounds = call.module.block_bounds(q.device, shape, call.values, call.layout)
    compared = needless = 0
    for by_row in (True, False):
        lists = call.module.find_tiles(q.device, shape, bounds, block, by_row)
        programs = [tuple(each) for each in lists.programs.tolist()]
        rows = -(-(mask.query_length if by_row else mask.key_length) // block[0 if by_row else 1])
        assert sorted(programs) == [*np.ndindex(batch, mask.heads, rows)], "each row once"
        for number, (entry, head, row) in enumerate(programs):
            classes = exact.classes(head=head, batch=min(entry, exact.class_of_head.shape[0] - 1))
            found = classes[row] if by_row else classes[:, row]
            full = visited(lists.full_rows, lists.full_runs, number, len(found))
            partial = visited(lists.partial_rows, lists.partial_runs, number, len(found))
            assert ((full + partial) <= 1).all(), "visited twice"
            assert ((full == 0) | (found == FULL)).all(), "wrongly full"
            assert ((found == EMPTY) | (full + partial == 1)).all(), "missed"
            compared += len(found)
            needless += int(((partial == 1) & (found != PARTIAL)).sum())
    return compared, needless


def nonsense(*sizes: int, dtype: torch.dtype = torch.float32, **options: Any) -> torch.Tensor:
    limits = torch.iinfo(torch.int32 if dtype.is_floating_point else dtype)
    return torch.randint(limits.min, limits.max, sizes, dtype=dtype, **options)


def main() -> None:
    random = np.random.default_rng(3)
    torch.empty = nonsense  # type: ignore[assignment]
    module = maskdsl.parse(TEXT)
    documents = np.sort(random.integers(0, 6, (2, 150)))
    counts = {}
    counts["packed"] = compare(module["packed"].bind(heads=2), {"document": documents}, (16, 8), 2)
    counts["cut"] = compare(module["cut"].bind(heads=3), {"cut": random.integers(0, 90, (2, 3))}, (16, 16), 2)
    level = np.sort(random.normal(size=70))
    level[[3, 40]] = np.nan
    level[50] = np.inf
    counts["level"] = compare(module["level"].bind(), {"level": level}, (8, 8), 1)
    marks = {"few": random.random(100) < 0.02, "all": np.ones(100, dtype=bool)}
    marks["every second"] = np.arange(200) % 2 == 0  # with more runs in a row than lists hold
    for name, mark in marks.items():
        counts[name] = compare(module["every"].bind(n=len(mark)), {"mark": mark}, (32, 1), 1)
    group = np.repeat(random.integers(0, 3, (2, 9)), 7, axis=1)
    counts["laid_out"] = compare(module["laid_out"].bind(heads=2), {"group": group}, (8, 8), 1)
    drawn, missing = np.zeros(2, dtype=int), int(sys.argv[1])
    numbers = iter(range(30 * missing))  # about one pattern in eight
    while missing:
        number = next(numbers)
        mask = sample(patterns(), number).bind()
        inputs = sample(inputs_for(mask.ir, batch=2), number)
        compared, needless = compare(mask, inputs, (8, 4), 2)
        drawn, missing = drawn + np.array([compared, needless]), missing - (compared > 0)
    print(json.dumps({**counts, "drawn": drawn.tolist()}))


if __name__ == "__main__":
    main()

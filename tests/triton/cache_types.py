"""Run in a process of its own, with TRITON_INTERPRET=1: caches of other types than the queries, and packed queries.

Against the dense reference on the same values in float32. Prints `agreed`.
"""

from typing import Any

import torch

import maskdsl
from maskdsl.runtime.backends.triton_backend import interpreted
from tests.triton.interpreted import poisoned

TEXT = "pattern p(n = 90) { space t[n] attend causal and (backward(9) or k < 2) score s - 0.01 * float(q - k) }"
PAIRS = [
    (torch.float32, torch.float16, 1e-5),
    (torch.float32, torch.float8_e4m3fn, 1e-5),
    (torch.bfloat16, torch.float8_e5m2, 1e-2),
    (torch.bfloat16, torch.float16, 1e-2),
    (torch.float16, torch.float32, 1e-3),
]


def main() -> None:
    assert interpreted()
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    mask = maskdsl.parse(TEXT)["p"].bind(heads=4)
    attention, reference = mask.compile("triton"), mask.compile("reference")
    lengths, ends = torch.tensor([67, 5, 90]), torch.tensor([0, 9, 10, 12])
    for dtype, cached, room in PAIRS:
        q, (k, v) = torch.randn(12, 4, 16).to(dtype), torch.randn(2, 30, 2, 10, 16).to(cached)
        table = torch.randperm(29)[:27].view(3, 9)
        k[29], v[29] = torch.nan, torch.nan
        table[0, 7:], table[1, 1:] = 29, 29
        scales: dict[str, Any] = {"key_scale": torch.tensor([0.4, 1.7]), "value_scale": 1.3}
        out = attention.varlen(q, k, v, ends, page_table=table, key_lengths=lengths, **scales)
        assert out.dtype == dtype
        k, v = k.float() * scales["key_scale"].view(2, 1, 1), v.float() * 1.3
        expected = reference.varlen(q.float(), k, v, ends, page_table=table, key_lengths=lengths)
        torch.testing.assert_close(out.float(), expected, rtol=room, atol=room)
    print("agreed")


if __name__ == "__main__":
    main()

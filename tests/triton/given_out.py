"""Run in a process of its own, with TRITON_INTERPRET=1: calls with `out`, which kernels write into if it is contiguous.

Prints `agreed` at the end; any difference raises.
"""

import torch
from torch import Tensor

import maskdsl
from maskdsl.runtime import base_attention

PATTERN = maskdsl.parse("pattern p(n = 40) { space t[n]  attend causal and backward(9) }")["p"]
_written = base_attention.written
there: list[bool] = []
"""Of each call, whether kernels have written the output into `out`."""


def watched(out: Tensor, result: Tensor) -> Tensor:
    there.append(result.data_ptr() == out.data_ptr())
    return _written(out, result)


def main() -> None:
    base_attention.written = watched  # type: ignore[assignment]
    mask = PATTERN.bind(heads=4)
    q, (k, v) = torch.randn(2, 4, 40, 8), torch.randn(2, 2, 2, 40, 8)
    for rows, options in ((q, {}), (q[:, :, 20:21], {"query_start": 20})):
        expected = mask.compile("reference")(rows, k, v, **options)
        for out in (torch.full_like(expected, torch.nan), torch.empty(*rows.shape[:3], 10)[..., 1:9]):
            assert mask.compile("triton")(rows, k, v, out=out, **options) is out
            torch.testing.assert_close(out, expected)
    assert there == [True, False] * 2


if __name__ == "__main__":
    main()
    print("agreed")

"""Run in a process of its own, with TRITON_INTERPRET=1: gradients through routed attention against finite differences.

Results are NaN before kernels run. Prints `agreed` at the end; any difference raises.
"""

import torch

import maskdsl
from maskdsl.runtime.backends.available import usable_backends
from tests.support.finite_differences import GATED, READ, check_differences, leaves
from tests.triton.interpreted import poisoned


def main() -> None:
    assert "triton" in usable_backends()
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    for name, read in READ.items():
        mask = maskdsl.parse(GATED)[name].bind(heads=2, n=13)
        check_differences(mask.compile("triton"), leaves(mask, 3), ["q", "k", "v", *read])
    print("agreed")


if __name__ == "__main__":
    main()

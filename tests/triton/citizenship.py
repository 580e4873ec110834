"""Run in a process of its own, with TRITON_INTERPRET=1: torch.compile, vmap, torch.func and opcheck on Triton kernels.

Prints `agreed` at the end; any difference raises.
"""

import sys

import torch

from maskdsl.runtime.backends.available import usable_backends
from tests.support.citizenship import (
    assert_same,
    case_of,
    check_compiled_whole_and_equal,
    check_func_grad,
    check_no_second_derivatives,
    check_opcheck,
    check_vmap,
)


def main(names: list[str]) -> None:
    assert "triton" in usable_backends()
    for name in names:
        kernels, reference = case_of(name, "triton"), case_of(name, "reference")
        assert_same(kernels.gradients(), reference.gradients())
        check_compiled_whole_and_equal(name, "triton")
        torch._dynamo.reset()
        if name == "static":
            check_func_grad(name, "triton")
        elif name == "ordered":
            check_vmap(name, "triton")
        else:
            check_opcheck(name, "triton")
            check_no_second_derivatives("triton")
    print("agreed")


if __name__ == "__main__":
    main(sys.argv[1:])

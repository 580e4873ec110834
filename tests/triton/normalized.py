"""Run in a process of its own, with TRITON_INTERPRET=1: kernels against published code, and in float32.

With `whole` all cases, otherwise those that have kernels of their own. Prints `agreed` at the end; any difference
raises.
"""

import sys

import torch

from tests.support import dropout
from tests.support.finishing import check_large_sums, check_large_sums_by_key, check_rounded_once
from tests.support.normalized import CASES, assert_no_gradient_of_nothing, check

OWN = ("ReLU", "two sinks", "affine")

if __name__ == "__main__":
    assert_no_gradient_of_nothing("none", "triton")
    check_large_sums("triton")
    check_large_sums_by_key("triton")
    for dtype in (torch.float16, torch.bfloat16):
        check_rounded_once("triton", dtype)
    whole = sys.argv[1:] == ["whole"]
    for name in CASES if whole else OWN:
        check(CASES[name], "triton")
        if whole:
            check(CASES[name], "triton", torch.float32, dim=16, room=1e-5)
    for way in dropout.WAYS if whole else ():
        dropout.check(way, "triton")
    print("agreed")

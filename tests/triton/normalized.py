"""Run in a process of its own, with TRITON_INTERPRET=1: kernels against published code, and in float32.

Prints `agreed` at the end; any difference raises.
"""

import torch

from tests.support.normalized import CASES, check

if __name__ == "__main__":
    for case in CASES.values():
        check(case, "triton")
        check(case, "triton", torch.float32, dim=16, room=1e-5)
    print("agreed")

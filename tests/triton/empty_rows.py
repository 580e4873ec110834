"""Run in a process of its own, with TRITON_INTERPRET=1: kernels where padding is a bias of large negative numbers
are as close to float64 as torch's own attention. Prints `agreed` at the end; any difference raises.
"""

import sys

import torch

from tests.support.empty_rows import Padded

if __name__ == "__main__":
    relation, dtype, length = sys.argv[1:]
    Padded(relation, "finfo.min", getattr(torch, dtype), int(length)).check_against_sdpa("triton")
    print("agreed")

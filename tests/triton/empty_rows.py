"""Run in a process of its own, with TRITON_INTERPRET=1: kernels where keys are padded by large numbers, as near to
float64 as torch's own attention. Prints `agreed` at the end; whatever differs raises.
"""

import sys

import torch

from tests.support.empty_rows import Padded

if __name__ == "__main__":
    relation, dtype, length = sys.argv[1:]
    Padded(relation, "finfo.min", getattr(torch, dtype), int(length)).check_against_sdpa("triton")
    print("agreed")

"""Run in a process of its own, with TRITON_INTERPRET=1: kernels of patterns with branches, against published code.

Prints `agreed` at the end; any difference raises.
"""

import sys

import torch

from tests.support.branched_papers import PAPERS

if __name__ == "__main__":
    for name in sys.argv[1:] or PAPERS:
        PAPERS[name].check("triton")
    PAPERS["gpsa"].check("triton", torch.float32, dim=16)
    print("agreed")

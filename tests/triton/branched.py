"""Run in a process of its own, with TRITON_INTERPRET=1: kernels of patterns with branches, against published code.

Prints `agreed` at the end; any difference raises.
"""

import sys

import torch

from tests.catalogue.sources import decays, position_scores
from tests.support.branched_papers import PAPERS

ROWS = [*position_scores.ROWS, *decays.ROWS]
EXAMPLES = {row.pattern: row for row in reversed(ROWS) if row.bound().branches}
"""The first row of each of them."""

if __name__ == "__main__":
    for name in sys.argv[1:] or (*PAPERS, *EXAMPLES):
        (PAPERS | EXAMPLES)[name].check("triton")
    PAPERS["adapter"].check("triton", torch.float32, dim=16)
    print("agreed")

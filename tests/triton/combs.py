"""Run in a process of its own, with TRITON_INTERPRET=1: kernels that read runs with a step, against the reference.

Prints `agreed` at the end; any difference raises.
"""

from pathlib import Path

import torch

import maskdsl
from tests.triton.shapes import compare, compare_gradients

if __name__ == "__main__":
    for pattern in maskdsl.load(Path(__file__).with_suffix(".attn")).values():
        mask = pattern.bind(heads=2)
        compare(mask, *torch.randn(3, 1, 2, mask.key_length, 16))
        compare_gradients(mask, mask.key_length)
    print("agreed")

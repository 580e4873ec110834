"""Run in a process of its own, with TRITON_INTERPRET=1: products of vectors in scores, of kernels."""

import sys

from tests.support.dot_checks import check_chunks, check_gradients, check_packed
from tests.support.dot_patterns import CASES

SHORT = ("windowed",)
"""Enough to see that kernels read what is computed before them: they know nothing of vectors."""


def main(whole: bool) -> None:
    for name in CASES if whole else SHORT:
        check_gradients(name, "triton")
    if whole:
        check_chunks("transformer_xl", "triton")
        check_packed("deberta", "triton")
    print("agreed")


if __name__ == "__main__":
    main("whole" in sys.argv)

"""Run in a process of its own, with TRITON_INTERPRET=1: products of vectors in scores, of kernels."""

import sys

from maskdsl.runtime.kernels import product_finder
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
        product_finder.MOST_PRODUCTS, product_finder._FEWEST_TOKENS = 64, 16
        check_gradients("deberta", "triton")  # some keys at a time
    print("agreed")


if __name__ == "__main__":
    main("whole" in sys.argv)

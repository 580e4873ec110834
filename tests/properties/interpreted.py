"""Run in a process of its own, with TRITON_INTERPRET=1: random patterns through the generated Triton kernels.

Prints one JSON object: how many patterns ran, and the first that failed, if any. `break` as the last argument takes
the kernels' own rounding from `//` and `%`, for the test that such a mistake is found.
"""

import json
import sys
import warnings
from itertools import chain

from maskdsl.emit.triton import triton_printer
from maskdsl.ir.ops import Op
from maskdsl.runtime.backends.triton_backend import interpreted
from tests.support.found import FOUND, found_case
from tests.support.properties import calls, check_triton, sample
from tests.support.ragged import check_ragged

warnings.simplefilter("ignore")  # NumPy's, of pairs that do not attend


def rounding_toward_zero() -> None:
    """Prints every `//` and `%` as Triton's own."""
    right = triton_printer.TritonPrinter.apply

    def apply(self, op, arguments):
        if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO):
            sign = "//" if op is Op.FLOOR_DIVIDE else "%"
            left, other = (self.operand(each, triton_printer.ATOM) for each in arguments)
            return f"({left} {sign} {other})", triton_printer.ATOM
        return right(self, op, arguments)

    triton_printer.TritonPrinter.apply = apply


def first_failure(count: int, start: int) -> tuple[int, str]:
    found = [found_case(body, (16, 16), dim=16) for body in FOUND.values()]
    drawn = (sample(calls(dim=16), number) for number in range(start, start + count))
    for ran, call in enumerate(chain(found, drawn)):
        try:
            check_triton(*call)
            check_ragged(call[0], "triton", start + ran, *call[1:])
        except Exception as error:
            return ran, f"{type(error).__name__}: {error}\n{call[0]}"
    return count + len(found), ""


if __name__ == "__main__":
    assert interpreted()
    if sys.argv[-1] == "break":
        rounding_toward_zero()
    ran, failure = first_failure(int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps({"ran": ran, "failure": failure}))

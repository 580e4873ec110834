"""Run in a process of its own, with TRITON_INTERPRET=1: random patterns through the generated Triton kernels.

Prints one JSON object: how many patterns ran, and the first that failed, if any. `break` as the last argument takes
the kernels' own rounding from `//` and `%`, for the test that such a mistake is found.
"""

import json
import sys
import warnings

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

from maskdsl.emit import triton_printer
from maskdsl.ir.ops import Op
from maskdsl.runtime.triton import interpreted
from tests.properties.checks import calls, check_triton
from tests.properties.test_found import FOUND, found_case

warnings.simplefilter("ignore")  # NumPy's, of pairs that do not attend


def rounding_toward_zero() -> None:
    """Prints every `//` and `%` as Triton's own."""
    right = triton_printer.TritonPrinter.apply

    def apply(self, op, arguments):
        if op in (Op.FLOOR_DIVIDE, Op.FLOOR_MODULO):
            sign = "//" if op is Op.FLOOR_DIVIDE else "%"
            left, other = (self.place(each, triton_printer.ATOM) for each in arguments)
            return f"({left} {sign} {other})", triton_printer.ATOM
        return right(self, op, arguments)

    triton_printer.TritonPrinter.apply = apply


def first_failure(count: int, start: int) -> tuple[int, str]:
    done: list[object] = []

    @seed(start)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(calls(dim=16))
    def run(call):
        done.append(call)
        check_triton(*call)

    try:
        for body in FOUND.values():
            check_triton(*found_case(body, (16, 16), dim=16))
        run()
    except Exception as error:
        return len(done), f"{type(error).__name__}: {error}\n{done[-1][0] if done else ''}"
    return len(done), ""


if __name__ == "__main__":
    assert interpreted()
    if sys.argv[-1] == "break":
        rounding_toward_zero()
    ran, failure = first_failure(int(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps({"ran": ran, "failure": failure}))

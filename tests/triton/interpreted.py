"""Run in a process of its own, with TRITON_INTERPRET=1: patterns of files through the interpreter, against the meaning.

Results are filled with NaN before kernels run, so that what a kernel does not write is found. Prints one JSON object:
the name of each pattern, and what went wrong with it, if anything.
"""

import json
import sys

import maskdsl
from maskdsl.runtime.backends import BACKENDS, usable_backends
from maskdsl.verify import verify


def main(cases: int, seed: int, files: list[str]) -> None:
    assert "triton" in usable_backends()
    BACKENDS["triton"].poison = True  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    for file in files:
        module = maskdsl.load(file)
        for name in module:
            verdict = verify(module[name], cases=cases, seed=seed, backends=("triton",))
            found[name] = "; ".join(f"{failure.what} at {failure.case}" for failure in verdict.failures)
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

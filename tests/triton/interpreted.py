"""Run in a process of its own, with TRITON_INTERPRET=1: kernels of the patterns of files against the meaning.

Results are NaN before kernels run, to catch what no kernel writes. Prints one JSON object: for each pattern what
failed, or nothing.
"""

import json
import sys
from typing import Any

import torch

import maskdsl
from maskdsl.api.verify import verify
from maskdsl.runtime.backends.available import usable_backends

new_empty = torch.Tensor.new_empty


def poisoned(self: torch.Tensor, *sizes: Any, **options: Any) -> torch.Tensor:
    tensor = new_empty(self, *sizes, **options)
    return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor


def main(cases: int, seed: int, files: list[str]) -> None:
    assert "triton" in usable_backends()
    torch.Tensor.new_empty = poisoned  # type: ignore[method-assign]
    failures: dict[str, str] = {}
    for file in files:
        module = maskdsl.load(file)
        for name in module:
            verdict = verify(module[name], cases=cases, seed=seed, backends=("triton",))
            failures[name] = "; ".join(f"{failure.what} at {failure.case}" for failure in verdict.failures)
    print(json.dumps(failures))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])

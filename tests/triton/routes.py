"""Run in a process of its own, with TRITON_INTERPRET=1: the tiles of routes that kernels find, against exact ones.

Prints for some routing examples the numbers of tiles compared and of tiles that are partial without need.
`tests/ir/test_boxes.py` computes the same bounds of all examples without kernels.
"""

import json
from pathlib import Path

import numpy as np
import torch

import maskdsl
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from tests.triton.tiles import compare, nonsense

EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"
CASES: list[tuple[str, str, dict[str, object], tuple[int, int]]] = [
    ("seer", "seer", {"n": 70, "block": 8, "top": 3}, (8, 16)),
    ("vertical_slash", "vertical_slash", {"n": 64, "columns": 8, "diagonals": 8}, (16, 8)),
    ("vmoba", "vmoba", {"t": 2, "h": 6, "w": 8, "block_t": 2, "block_h": 3, "block_w": 4, "mass": 0.3}, (16, 32)),
]
SCATTERED = """
pattern scattered(n = 160) { space t[n]  input worth: float[tokens]  route best = topk(80, k.worth)  attend best }
"""


def main() -> None:
    torch.empty = nonsense  # type: ignore[assignment]
    counts = {}
    for number, (file, name, sizes, block) in enumerate(CASES):
        heads, batch = (1, 2) if number % 2 else (2, 1)
        mask = maskdsl.load(EXAMPLES / f"{file}.attn")[name].bind(heads=heads, **sizes)
        q, k = np.random.default_rng(5).normal(size=(2, batch, heads, mask.query_length, 16))
        inputs = with_routes(mask.ir, synthetic_inputs(mask.ir, 5, batch, 16), q, k)
        counts[name] = compare(mask, inputs, block, batch)
    # More runs in a row than there is room for where nothing is known of their number.
    mask = maskdsl.parse(SCATTERED)["scattered"].bind()
    inputs = with_routes(mask.ir, {"worth": np.arange(160) % 2.0}, *np.zeros((2, 1, 1, 160, 16)))
    counts["scattered"] = compare(mask, inputs, (128, 1), 1)
    print(json.dumps(counts))


if __name__ == "__main__":
    main()

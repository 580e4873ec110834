"""Run with TRITON_INTERPRET=1: patterns of `order auto` against the meaning in declared order. Prints `agreed`."""

import numpy as np
import torch

import maskdsl
from maskdsl.ir.meaning.evaluate import attention

TEXT = """
pattern residues(n = 512) {
    space line[n]
    attend neighborhood(9, 32)
    order auto
}
pattern spaces(h = 15, w = 24) {
    space guide[30]
    space video[y = h, x = w]
    tokens guide ++ video
    input document: int[tokens]
    attend guide -> all where same(document)
    attend video -> video where same(x) and q.y - k.y <= 9
    order auto
}
"""


def main() -> None:
    random = np.random.default_rng(2)
    module = maskdsl.parse(TEXT)
    for name in module:
        mask = module[name].bind(heads=2)
        assert any(mask.ir.queries.order), name
        q = random.normal(size=(1, 2, mask.query_length, 16))
        k, v = random.normal(size=(2, 1, 1, mask.key_length, 16))
        inputs = {each.name: random.integers(0, 3, mask.key_length).astype(np.int32) for each in mask.inputs}
        expected, _ = attention(mask.with_order("declared").ir, q, k, v, inputs)
        tensors = [torch.from_numpy(each) for each in (q, k, v)]
        given = {key: torch.from_numpy(value) for key, value in inputs.items()}
        found = mask.compile("triton")(*tensors, **given)
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)
    print("agreed")


if __name__ == "__main__":
    main()

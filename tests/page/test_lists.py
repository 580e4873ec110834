"""The page evaluates relations with sparse inputs, in a browser's code, as the plain meaning does."""

import numpy as np

import maskdsl
from maskdsl.ir.meaning.inputs import input_arrays
from tests.page.test_evaluate import compare, evaluate  # noqa: F401  # the fixture

TEXT = """
pattern drawn(n = 37) {
    space tokens[n]
    input edge: sparse[tokens, tokens]
    input kind: int[edge]
    input chosen: sparse[heads, 5, 5]
    attend edge[q, k] and kind[q, k] > 0
    attend not edge[k, q] and chosen[head, q // 8, k // 8]
}
"""


def test_lists(evaluate):  # noqa: F811
    mask = maskdsl.parse(TEXT)["drawn"].bind(heads=3)
    random = np.random.default_rng(0)
    pairs = np.array(np.nonzero(random.random((37, 37)) < 0.2))[:, ::-1]
    starts = np.broadcast_to(np.arange(6) * 3, (3, 6))
    columns = random.integers(-1, 5, (3, 15))
    given = {"edge": pairs, "kind": random.integers(-1, 2, pairs.shape[1]), "chosen": (starts, columns)}
    compare(evaluate, mask.pattern.declaration, mask.ir, input_arrays(mask.ir, given, ()))

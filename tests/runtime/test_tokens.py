"""Coordinates of tokens that stand elsewhere: as tensors, against their meaning token by token."""

import numpy as np
import pytest
import torch

import maskdsl
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs
from maskdsl.ir.rewrites.regroup import Copies
from maskdsl.runtime.backends.available import usable_backends
from maskdsl.runtime.base.kept import Kept
from maskdsl.runtime.base.token_values import token_values

BATCH, HEADS = 2, 3
TEXT = """
pattern mixed(h = 3, w = 4, m = 5) {
    space text[m]
    space image[y = h, x = w]
    tokens text ++ image
    input document: int[batch, tokens]
    input shift: int[heads, 4]
    input level: float[heads, image]
    coord part = document % 3 + i // 4
    coord image.moved = x + shift[head, y] + batch
    coord image.high = 1 if level > 0.5 else 0
    coord image.place = hilbert(y, x) + document
    attend causal and q.part == k.part
    attend image -> image where q.moved <= k.moved and q.high <= k.high and q.place != k.place
}
"""
REGROUPED = """
pattern regrouped(n = 40) {
    space tokens[n]
    input document: int[batch, tokens]
    coord part = document * 2 + i % 2
    coord chunk = i // 8
    route past = topk(2, dot(q, mean(k by chunk))) where k.chunk < q.chunk
    attend causal and (past and q.part == k.part or q - k < 3)
}
"""


def test_values_are_those_of_the_meaning() -> None:
    mask = maskdsl.parse(TEXT)["mixed"].bind(heads=HEADS).ir
    inputs = synthetic_inputs(mask, 3, BATCH)
    given = {name: torch.as_tensor(value) for name, value in inputs.items()}
    gathered = Copies(mask, mask.queries.length, mask.keys.length)
    names = set()
    for value in gathered.values:
        node = value.leaf
        found = token_values(gathered, value, given, BATCH, torch.device("cpu"), Kept())
        names.add(value.declared.name)
        for batch, head in np.ndindex(BATCH, HEADS):
            tokens = Coordinates(mask, gathered.tokens(node), inputs, batch, head)
            expected = tokens.member(node.space) if hasattr(node, "space") else tokens.values(node.name)
            np.testing.assert_array_equal(found.expand(BATCH, HEADS, -1)[batch, head].numpy(), expected)
    assert {"q.part", "k.moved", "q.high", "k.place", "q.in image"} <= names


@pytest.mark.parametrize("backend", usable_backends())
def test_regrouped_queries_with_coordinates_of_inputs(backend: str) -> None:
    mask = maskdsl.parse(REGROUPED)["regrouped"].bind(heads=HEADS)
    inputs = synthetic_inputs(mask.ir, 4, BATCH)
    q, k, v = np.random.default_rng(5).normal(size=(3, BATCH, HEADS, 40, 16))
    tensors = [torch.as_tensor(each) for each in (q, k, v)]
    out = mask.compile(backend)(*tensors, **{name: torch.as_tensor(value) for name, value in inputs.items()})
    found = with_routes(mask.ir, inputs, q, k)
    attends = [[mask.dense(head=head, batch=batch, **found) for head in range(HEADS)] for batch in range(BATCH)]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, attn_mask=torch.as_tensor(np.array(attends)))
    torch.testing.assert_close(out, expected)

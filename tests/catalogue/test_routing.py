"""Stacks of routing examples."""

import maskdsl
from tests.support.routing_examples import EXAMPLES


def test_layers_that_the_caller_chooses():
    stack = maskdsl.load(EXAMPLES / "layer_choice.attn").stack("layer_choice").bind(n=64, size=8, dense=(0, 1, 0))
    assert [mask.name for mask in stack.layers] == ["window_layer", "causal_dense", "window_layer"]
    assert stack.layers[0] is stack.layers[2]

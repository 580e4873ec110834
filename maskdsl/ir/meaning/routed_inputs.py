"""Evaluates routes from given `q` and `k`: for a mask, and for each layer of a stack. Checks all that is given."""

from collections.abc import Mapping
from typing import Any

from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, layer_inputs, relation_inputs
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.vectors import blank_vectors, check_vectors, reads_vectors
from maskdsl.ir.stack import StackIR


def find_in_mask(mask: MaskIR, given: Mapping[str, Any], by_line: bool = False) -> dict[str, Any]:
    """The inputs that decide attending pairs: those given, with `q` and `k` replaced by what routes compute from them.

    `by_line` is that of `relation_inputs`. `q` and `k` are only needed if a route reads vectors. Raises `AttnError`
    with everything that does not fit.
    """
    if not mask.routed:
        return dict(given)
    arrays = {name: value for name, value in given.items() if name not in ("q", "k")}
    wanted = relation_inputs(mask, arrays, by_line)
    inputs = input_arrays(mask, arrays, wanted & {each.name for each in mask.given})
    needs_vectors = reads_vectors(mask, wanted) or "q" in given or "k" in given
    vectors = given if needs_vectors else blank_vectors(mask, inputs)
    q, k = vectors.get("q"), vectors.get("k")
    if q is not None and k is not None:
        check_vectors(mask, q, k)
    return with_routes(mask, inputs, q, k, wanted)


def find_in_layers(stack: StackIR, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inputs of each different layer, as `find_in_mask` gives them; all layers with routes share `q` and `k`.

    Raises `AttnError` if no layer has an input of a given name, or anything does not fit.
    """
    routed = any(mask.routed for mask in stack.different)
    vectors = {name: value for name, value in given.items() if routed and name in ("q", "k")}
    each_given = layer_inputs(stack, {name: value for name, value in given.items() if name not in vectors})
    return [
        find_in_mask(mask, each | vectors if mask.routed else each)
        for mask, each in zip(stack.different, each_given, strict=True)
    ]

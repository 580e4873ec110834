"""Inputs with what routes find in queries and keys: of a mask, and of each layer of a stack."""

from collections.abc import Mapping
from typing import Any

from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import input_arrays, layer_inputs, relation_inputs
from maskdsl.ir.meaning.route_meaning import find
from maskdsl.ir.meaning.vectors import blank_vectors, check_vectors, reads_vectors
from maskdsl.ir.stack import StackIR


def find_in_mask(mask: MaskIR, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is found in its `q` and `k` takes their place, as far as it decides pairs. Raises if anything is unfit.

    They may be left out where scores are all given.
    """
    if not mask.routed:
        return dict(given)
    arrays = {name: value for name, value in given.items() if name not in ("q", "k")}
    wanted = relation_inputs(mask, arrays)
    inputs = input_arrays(mask, arrays, wanted & {each.name for each in mask.given})
    known = reads_vectors(mask, wanted) or "q" in given or "k" in given
    vectors = given if known else blank_vectors(mask, inputs)
    q, k = vectors.get("q"), vectors.get("k")
    if q is not None and k is not None:
        check_vectors(mask, q, k)
    return find(mask, inputs, q, k, wanted)


def find_in_layers(stack: StackIR, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of what is given, what each different layer has; `q` and `k` serve all layers with routes, as other inputs do.

    Raises if no layer has what is given, or it is unfit.
    """
    routed = any(mask.routed for mask in stack.different)
    vectors = {name: value for name, value in given.items() if routed and name in ("q", "k")}
    own = layer_inputs(stack, {name: value for name, value in given.items() if name not in vectors})
    return [
        find_in_mask(mask, each | vectors if mask.routed else each)
        for mask, each in zip(stack.different, own, strict=True)
    ]

"""What commands look at where pairs are found in queries and keys: what is selected, or all that may be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.api import Mask
from maskdsl.cli.consoles import note
from maskdsl.cli.request import SYNTHETIC_SEED, Inputs, complete, read_arrays
from maskdsl.ir.candidates import least, most, selects
from maskdsl.ir.inputs import relation_inputs
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.routing import find

RANDOM_DIM = 64


@dataclass(frozen=True, eq=False)
class Looked:
    """Masks with all inputs that decide their tiles."""

    masks: tuple[Mask, ...]
    inputs: Mapping[str, NDArray[Any]]
    least: tuple[Mask, ...] = ()
    """Where `masks` have all that may be selected: what attends whatever is."""


def look(masks: Sequence[Mask], given: Sequence[str], seed: int | None) -> Looked:
    """Masks of one pattern in several orders. Tells which inputs were made up.

    What routes select follows from the inputs `q` and `k`, or with a `seed` from random ones. Without either, masks
    have all candidates.
    """
    arrays = read_arrays(given)
    needed = frozenset[str]().union(*(relation_inputs(mask.ir, arrays) for mask in masks))
    mask = masks[0].ir
    if not mask.found:
        inputs = complete(mask, arrays, needed)
        tell(inputs)
        return Looked(tuple(masks), inputs.arrays)
    vectors: dict[str, NDArray[Any]] = {name: arrays.pop(name) for name in ("q", "k") if name in arrays}
    inputs = complete(mask, arrays, needed, dim=vectors["q"].shape[-1] if "q" in vectors else RANDOM_DIM)
    tell(inputs)
    if seed is not None and not vectors:
        vectors = random_vectors(mask, seed)
        note(f"selected by random queries and keys (seed {seed}, head dimension {RANDOM_DIM})")
    found = find(mask, inputs.arrays, vectors.get("q"), vectors.get("k"), needed)
    if not selects(mask) or needed <= found.keys():
        return Looked(tuple(masks), found)
    note(
        "routes select in the queries and keys of a call: these are all candidates; --random SEED, or --input q=q.npy"
        " --input k=k.npy, shows a selection"
    )
    widest, narrowest = (tuple(replace(each, ir=bound(each.ir)) for each in masks) for bound in (most, least))
    return Looked(widest, found, narrowest)


def random_vectors(mask: MaskIR, seed: int) -> dict[str, NDArray[Any]]:
    """Normal queries and keys of one batch entry."""
    random = np.random.default_rng(seed)
    lengths = {"q": mask.queries.length, "k": mask.keys.given_length}
    return {name: random.normal(size=(1, mask.heads, length, RANDOM_DIM)) for name, length in lengths.items()}


def tell(inputs: Inputs) -> None:
    if inputs.made:
        names = ", ".join(f"`{name}`" for name in inputs.made)
        note(f"made-up values for {names} (seed {SYNTHETIC_SEED}); --input gives real ones")

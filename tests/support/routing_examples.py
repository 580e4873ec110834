"""Examples of routes at odd lengths, with random tensors for them."""

from pathlib import Path

import numpy as np

from maskdsl.ir.declared.inputs import DimensionKind, Input
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.ops import Type

EXAMPLES = Path(__file__).parents[2] / "examples" / "routing"
CASES = [
    ("moba", "moba", {"n": 45, "block": 8, "top": 3}),
    ("moba", "moba", {"n": 5, "block": 8, "top": 1}),
    ("vmoba", "vmoba", {"t": 3, "h": 5, "w": 4, "block_t": 2, "block_h": 2, "block_w": 3, "mass": 0.3}),
    ("vmoba", "vmoba_per_head", {"t": 3, "h": 5, "w": 4, "block_t": 2, "block_h": 2, "block_w": 3, "mass": 0.3}),
    ("biformer", "biformer", {"h": 7, "w": 9, "regions": 3, "top": 2}),
    ("biformer", "biformer", {"h": 2, "w": 1, "regions": 3, "top": 9}),
    ("routing_transformer", "routing_transformer_union", {"n": 37, "clusters": 3, "size": 11}),
    ("clusters", "clusters", {"n": 33}),
    ("seer", "seer", {"n": 41, "block": 6, "top": 2}),
    ("seer", "seer_above", {"n": 41, "block": 6, "threshold": 0.2}),
    ("proxy", "proxy", {"n": 41, "block": 6, "top": 2, "groups": 2}),
    ("proxy", "proxy", {"n": 23, "block": 6, "top": 0, "groups": 1}),
    ("proxy", "proxy_budget", {"n": 41, "block": 6, "groups": 4}),
    ("permuted_blocks", "permuted_blocks", {"n": 45, "segment": 12, "block": 4, "mass": 0.6}),
    ("permuted_blocks", "permuted_blocks", {"n": 31, "segment": 8, "block": 4, "mass": 0.9}),
    ("dhsa", "dhsa", {"n": 40, "block": 8, "kept": 12, "recent": 4}),
    ("infllm", "infllm", {"n": 93, "block": 16, "top": 3, "sinks": 1, "size": 5}),
    ("infllm", "nosa", {"n": 93, "block": 16, "top": 3, "sinks": 1, "size": 5, "fixed": 2}),
    ("quest", "quest", {"n": 45, "page": 6, "top": 3}),
    ("flexprefill", "flexprefill", {"n": 45, "block": 8, "mass": 0.6}),
    ("knn", "knn", {"n": 29, "top": 5}),
    ("knn", "knn", {"n": 3, "top": 5}),
    ("sparsifiner", "sparsifiner", {"n": 29, "top": 5}),
    ("vertical_slash", "vertical_slash", {"n": 37, "columns": 3, "diagonals": 4}),
    ("antidiagonal", "antidiagonal", {"n": 45, "block": 8, "stride": 4, "mass": 0.6}),
]
HEADS, KEY_HEADS, BATCH, DIM = 4, 2, 2, 16


def array(declared: Input, random: np.random.Generator) -> np.ndarray:
    sizes = {DimensionKind.BATCH: BATCH, DimensionKind.DIM: DIM, DimensionKind.FREE: 5}
    shape = [sizes.get(each.kind, each.size or 0) for each in declared.dimensions]
    if declared.type is Type.FLOAT:
        return random.normal(size=shape)
    if declared.type is Type.BOOL:
        return random.random(shape) < 0.5
    if declared.is_coordinate:  # chunks of random lengths, numbered from 0
        return np.cumsum(random.random(shape) < 0.2, axis=-1)
    return random.integers(0, 4, shape)


def tensors(mask: MaskIR, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    q = random.normal(size=(BATCH, mask.heads, mask.queries.given_length, DIM))
    k, v = random.normal(size=(2, BATCH, KEY_HEADS, mask.keys.given_length, DIM))
    return q, k, v, {each.name: array(each, random) for each in mask.given}

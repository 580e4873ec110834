"""VMoBA: blocks of a video by shares of gates, among what competes."""

from functools import partial

import numpy as np

from tests.catalogue.compared import Row, Selects
from tests.catalogue.selecting import keys_by_head, means


def vmoba(
    kept: tuple[int, ...],
    q: np.ndarray,
    k: np.ndarray,
    t: int,
    h: int,
    w: int,
    block_t: int,
    block_h: int,
    block_w: int,
    mass: float,
) -> np.ndarray:
    """Released code: KwaiVGI/VMoBA, src/vmoba.py, 4da72ff.

    Of the gates' dimensions (heads, queries, blocks), all but the kept ones compete.
    """
    frame, row, column = np.unravel_index(np.arange(t * h * w), (t, h, w))
    cells = np.stack([frame // block_t, row // block_h, column // block_w], axis=1)
    own = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    gate = q @ means(keys_by_head(q, k), own).mT
    rival = kept + tuple(axis for axis in range(3) if axis not in kept)
    flat = gate.transpose(rival).reshape(*(gate.shape[axis] for axis in kept), -1)
    itself = np.broadcast_to(own[:, None] == np.arange(gate.shape[2]), gate.shape)
    chosen = _crossing(flat, itself.transpose(rival).reshape(flat.shape), mass)
    found = chosen.reshape([gate.shape[axis] for axis in rival]).transpose(np.argsort(rival))
    return found[:, :, own]


def _crossing(gate: np.ndarray, itself: np.ndarray, mass: float) -> np.ndarray:
    """What is itself, and the best others up to the first one with which the shares make the mass: at least one."""
    least, most = gate.min(axis=-1, keepdims=True), gate.max(axis=-1, keepdims=True)
    weight = (gate - least) / np.where(most - least > 1e-6, most - least, 1)
    share = weight / (weight.sum(axis=-1, keepdims=True) + 1e-6)
    missing = np.maximum(mass - np.where(itself, share, 0).sum(axis=-1, keepdims=True), 0)
    order = np.argsort(np.where(itself, 0, -share), axis=-1, kind="stable")
    before = np.take_along_axis(np.where(itself, 0, share), order, axis=-1).cumsum(axis=-1)
    reached = np.pad(before >= missing, [(0, 0)] * (gate.ndim - 1) + [(1, 0)])[..., :-1].cumsum(axis=-1) > 0
    chosen = np.zeros(gate.shape, dtype=bool)
    np.put_along_axis(chosen, order, ~reached, axis=-1)
    return chosen | itself


SIZES = {"t": 3, "h": 5, "w": 4, "block_t": 2, "block_h": 2, "block_w": 3}
SLICES = {"t": 3, "h": 2, "w": 3, "block_t": 1, "block_h": 8, "block_w": 8}
KEPT = {"vmoba": (0, 1), "vmoba_per_block": (2,), "vmoba_per_head": (0,), "vmoba_over_all": ()}
ROWS: list[Row] = [
    Selects("routing/vmoba", name, {**sizes, "mass": mass}, partial(vmoba, kept), heads=4, key_heads=2)
    for name, kept in KEPT.items()
    for sizes, mass in [(SIZES, 0.3), (SIZES, 0.02), (SLICES, 0.6)]
]

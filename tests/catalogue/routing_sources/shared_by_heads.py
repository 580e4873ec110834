"""BiFormer: regions of an image, one choice for all heads."""

import numpy as np

from tests.catalogue.compared import Row, Selects
from tests.catalogue.selecting import best, means


def biformer(q: np.ndarray, k: np.ndarray, h: int, w: int, regions: int, top: int) -> np.ndarray:
    """Released code: rayleizhu/BiFormer, ops/bra_nchw.py, 1697bbb."""
    row, column = np.divmod(np.arange(h * w), w)
    height, width = h // regions, w // regions
    region = row // height * -(-w // width) + column // width
    routed = best((means(q, region) @ means(k, region).mT).sum(axis=0), top)
    return np.broadcast_to(routed[region][:, region], (len(q), h * w, h * w))


ROWS: list[Row] = [
    Selects("routing/biformer", "biformer", values, biformer, heads=2, softmax_scale=(2 * 16) ** -0.5)
    for values in [
        {"h": 6, "w": 9, "regions": 3, "top": 2},
        {"h": 7, "w": 5, "regions": 3, "top": 4},
        {"h": 2, "w": 3, "regions": 2, "top": 9},
    ]
]

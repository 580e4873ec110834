"""Stripes, rows and columns of images."""

import numpy as np

from tests.catalogue.compared import Attends


def cswin(heads: int, h: int, w: int, stripe: int) -> np.ndarray:
    """Released code: microsoft/CSWin-Transformer, models/cswin.py, f111ae2.

    The first half of the heads has windows of the whole height and `stripe` columns (idx 0), the second half of
    `stripe` rows and the whole width (idx 1).
    """
    cells = np.arange(h * w).reshape(h, w)
    attends = np.zeros((heads, h * w, h * w), bool)
    for head in range(heads):
        height, width = (h, stripe) if head < heads // 2 else (stripe, w)
        for y in range(0, h, height):
            for x in range(0, w, width):
                window = cells[y : y + height, x : x + width].ravel()
                attends[head][np.ix_(window, window)] = True
    return attends


ROWS = [
    Attends("vision/cswin", "cswin", {"h": 9, "w": 9, "stripe": 3}, cswin, heads=5),
    Attends("vision/cswin", "cswin", {"h": 8, "w": 9, "stripe": 3}, cswin, heads=4),
]

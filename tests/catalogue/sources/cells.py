"""Windows and other cells that images are cut into."""

import numpy as np

from tests.catalogue.compared import Attends


def hidiffusion(heads: int, h: int, w: int, shift: tuple[int, int]) -> np.ndarray:
    """Released code: megvii-research/HiDiffusion, hidiffusion/hidiffusion.py, e9ec39a.

    `window_partition`: rolled, then cut into two by two windows. Images with an odd side are resized there.
    """
    rolled = np.arange(h * w).reshape(h, w)
    if shift[0] > 0:
        rolled = np.roll(rolled, (-shift[0], -shift[1]), (0, 1))
    windows = rolled.reshape(2, h // 2, 2, w // 2).transpose(0, 2, 1, 3).reshape(4, -1)
    attends = np.zeros((h * w, h * w), bool)
    for window in windows:
        attends[np.ix_(window, window)] = True
    return attends


ROWS = [
    Attends("vision/hidiffusion", "msw", {"h": 8, "w": 12, "shift": shift}, hidiffusion)
    for shift in ((0, 0), (1, 1), (2, 3), (3, 4))
]

"""Windows of images and volumes: tokens are numbered, and their numbers moved as the released code moves tokens."""

from itertools import product
from math import ceil, prod

import numpy as np

from tests.catalogue.compared import Attends


def numbered(*lengths: int) -> np.ndarray:
    """The numbers of the tokens of a grid."""
    return np.arange(prod(lengths)).reshape(lengths)


def padded(grid: np.ndarray, *sides: int) -> np.ndarray:
    """Filled up with -1 behind the end of each axis, to multiples of the sides."""
    return np.pad(
        grid, [(0, -length % side) for length, side in zip(grid.shape, sides, strict=True)], constant_values=-1
    )


def near(grid: np.ndarray, *sides: int) -> np.ndarray:
    """[windows, members] of these sides, which divide the grid."""
    axes = zip(grid.shape, sides, strict=True)
    cut = grid.reshape([part for length, side in axes for part in (length // side, side)])
    return cut.transpose(*range(0, cut.ndim, 2), *range(1, cut.ndim, 2)).reshape(-1, prod(sides))


def spread(grid: np.ndarray, *steps: int) -> np.ndarray:
    """[groups, members] that are these steps apart, which divide the grid."""
    axes = zip(grid.shape, steps, strict=True)
    cut = grid.reshape([part for length, step in axes for part in (length // step, step)])
    return cut.transpose(*range(1, cut.ndim, 2), *range(0, cut.ndim, 2)).reshape(prod(steps), -1)


def within(groups: np.ndarray, tokens: int) -> np.ndarray:
    """The pairs inside of one of the groups, [groups, members]; -1 is masked."""
    attends = np.zeros((tokens, tokens), bool)
    for group in groups:
        members = group[group >= 0]
        attends[np.ix_(members, members)] = True
    return attends


def swin(heads: int, h: int, w: int, size: int, shift: int) -> np.ndarray:
    """Released code: microsoft/Swin-Transformer, models/swin_transformer.py, 055c506.

    Windows of the rolled image. Three stretches of its rows and three of its columns make nine regions, which a mask
    keeps apart.
    """
    image, regions = np.roll(numbered(h, w), (-shift, -shift), (0, 1)), np.zeros((h, w), int)
    stretches = [slice(-size), slice(-size, -shift), slice(-shift, None)]
    for number, (rows, columns) in enumerate(product(stretches, stretches) if shift else ()):
        regions[rows, columns] = number
    attends = np.zeros((h * w, h * w), bool)
    for window, region in zip(near(image, size, size), near(regions, size, size), strict=True):
        attends[np.ix_(window, window)] = region[:, None] == region
    return attends


def style_swin(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: microsoft/StyleSwin, models/generator.py, a7c28b3.

    Two attentions of half of the heads each; the tokens of the second are rolled, under the mask of Swin.
    """
    halves = [swin(heads // 2, h, w, size, shift) for shift in (0, size // 2)]
    return np.repeat(halves, heads // 2, axis=0)


def maxvit_block(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: google-research/maxvit, maxvit/models/maxvit.py, 70a4707.

    `window_partition`.
    """
    return within(near(numbered(h, w), size, size), h * w)


def maxvit_grid(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: google-research/maxvit, maxvit/models/maxvit.py, 70a4707.

    `grid_partition`: the axes are split with the grid outside, and what is inside numbers the groups.
    """
    return within(spread(numbered(h, w), h // size, w // size), h * w)


def crossformer_short(heads: int, h: int, w: int, group: int) -> np.ndarray:
    """Released code: cheerss/CrossFormer, models/crossformer_backbone_seg.py, 7952010.

    The image is padded to whole groups, and padding is masked.
    """
    return within(near(padded(numbered(h, w), group, group), group, group), h * w)


def crossformer_long(heads: int, h: int, w: int, group: int, interval: int) -> np.ndarray:
    """Released code: cheerss/CrossFormer, models/crossformer_backbone_seg.py, 7952010.

    The image is padded to multiples of `group * interval`, and each square of that side is cut into groups.
    """
    side = group * interval
    squares = near(padded(numbered(h, w), side, side), side, side)
    groups = [spread(square.reshape(side, side), interval, interval) for square in squares]
    return within(np.concatenate(groups), h * w)


def crossformer_whole(heads: int, h: int, w: int, interval: int) -> np.ndarray:
    """Released code: cheerss/CrossFormer, models/crossformer_backbone_seg.py, 7952010.

    Where a group times the interval is as long as the image, there is one square.
    """
    return crossformer_long(heads, h, w, ceil(max(h, w) / interval), interval)


def davit(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: dingmyu/davit, timm/models/davit.py, 22893f2.

    `SpatialBlock`, where windows divide the image.
    """
    return within(near(numbered(h, w), size, size), h * w)


def gcvit(heads: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: NVlabs/GCVit, models/gc_vit.py, 8e1941f.

    `WindowAttention` and `WindowAttentionGlobal`, which repeats its queries for each window.
    """
    return within(near(numbered(h, w), size, size), h * w)


def dformer_local(heads: int, t: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: kkk55596/D-Former, model.py, dc3deb7.

    LS-MSA: the volume is padded to whole groups, and padding is masked.
    """
    sides = (size, size, size)
    return within(near(padded(numbered(t, h, w), *sides), *sides), t * h * w)


def dformer_global(heads: int, t: int, h: int, w: int, size: int) -> np.ndarray:
    """Released code: kkk55596/D-Former, model.py, dc3deb7.

    GS-MSA, where the lengths are multiples of its interval and of the group: as many groups as groups fit in.
    """
    return within(spread(numbered(t, h, w), t // size, h // size, w // size), t * h * w)


def craft(heads: int, h: int, w: int, a: int, b: int, shift: int) -> np.ndarray:
    """Released code: AVC2-UESTC/CRAFT-SR, basicsr/archs/craft_arch.py, f4f7068.

    Each half of the heads is rolled and cut into its rectangles; `attn_mask` is (None, None).
    """
    by = [a // 2, b // 2] if shift else [0, 0]
    halves = [
        within(near(np.roll(numbered(h, w), (-down, -right), (0, 1)), rows, columns), h * w)
        for rows, columns, down, right in ((a, b, *by), (b, a, *by[::-1]))
    ]
    return np.repeat(halves, heads // 2, axis=0)


ROWS = [
    Attends("vision/swin", "swin", {"h": 12, "w": 8, "size": 4, "shift": 2}, swin),
    Attends("vision/swin", "swin", {"h": 15, "w": 10, "size": 5, "shift": 1}, swin),
    Attends("vision/swin", "swin", {"h": 9, "w": 15, "size": 3, "shift": 0}, swin),
    Attends("vision/style_swin", "style_swin", {"h": 8, "w": 12, "size": 4}, style_swin, heads=4),
    Attends("vision/style_swin", "style_swin", {"h": 15, "w": 10, "size": 5}, style_swin, heads=6),
    Attends("vision/maxvit", "block", {"h": 8, "w": 12, "size": 4}, maxvit_block),
    Attends("vision/maxvit", "block", {"h": 21, "w": 7, "size": 7}, maxvit_block),
    Attends("vision/maxvit", "grid", {"h": 8, "w": 12, "size": 4}, maxvit_grid),
    Attends("vision/maxvit", "grid", {"h": 7, "w": 21, "size": 7}, maxvit_grid),
    Attends("vision/crossformer", "short", {"h": 10, "w": 13, "group": 4}, crossformer_short),
    Attends("vision/crossformer", "short", {"h": 9, "w": 6, "group": 3}, crossformer_short),
    Attends("vision/crossformer", "long", {"h": 12, "w": 12, "group": 3, "interval": 2}, crossformer_long),
    Attends("vision/crossformer", "long", {"h": 7, "w": 15, "group": 3, "interval": 4}, crossformer_long),
    Attends("vision/crossformer", "long", {"h": 13, "w": 11, "group": 2, "interval": 3}, crossformer_long),
    Attends("vision/crossformer", "long_whole", {"h": 8, "w": 11, "interval": 3}, crossformer_whole),
    Attends("vision/crossformer", "long_whole", {"h": 12, "w": 9, "interval": 4}, crossformer_whole),
    Attends("vision/davit", "spatial", {"h": 8, "w": 12, "size": 4}, davit),
    Attends("vision/gcvit", "local", {"h": 9, "w": 6, "size": 3}, gcvit),
    Attends("vision/gcvit", "global_query", {"h": 8, "w": 12, "size": 4}, gcvit),
    Attends("vision/dformer", "local", {"t": 4, "h": 5, "w": 7, "size": 2}, dformer_local),
    Attends("vision/dformer", "local", {"t": 1, "h": 6, "w": 4, "size": 3}, dformer_local),
    Attends("vision/dformer", "global", {"t": 4, "h": 6, "w": 8, "size": 2}, dformer_global),
    Attends("vision/dformer", "global", {"t": 3, "h": 6, "w": 9, "size": 3}, dformer_global),
    Attends("vision/craft", "craft", {"h": 8, "w": 16, "a": 2, "b": 8, "shift": 0}, craft, heads=4),
    Attends("vision/craft", "craft", {"h": 8, "w": 16, "a": 2, "b": 8, "shift": 1}, craft, heads=2),
    Attends("vision/craft", "craft", {"h": 15, "w": 15, "a": 3, "b": 5, "shift": 1}, craft, heads=6),
]

"""Windows of an image, as modules cut them, back in the order of the image."""

from torch import Tensor


def whole(x: Tensor, h: int, w: int, size: int, shift: int = 0) -> Tensor:
    """[batch * windows, heads, size * size, dim] as [batch, heads, h * w, dim], rolled back by `shift`."""
    down, right = h // size, w // size
    x = x.unflatten(2, (size, size)).unflatten(0, (-1, down, right))  # batch, down, right, heads, y, x, dim
    x = x.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)
    return x.roll((shift, shift), (2, 3)).flatten(2, 3)


def from_grid(x: Tensor, h: int, w: int, size: int) -> Tensor:
    """The same of windows that hold tokens far from each other, a grid of `size` x `size`."""
    down, right = h // size, w // size
    x = x.unflatten(2, (size, size)).unflatten(0, (-1, down, right))
    return x.permute(0, 3, 4, 1, 5, 2, 6).flatten(4, 5).flatten(2, 3).flatten(2, 3)


def by_offset(table: Tensor, size: int) -> Tensor:
    """[offsets, heads], an offset of rows and columns in one number, as [heads, rows, columns]."""
    return table.T.unflatten(1, (2 * size - 1, 2 * size - 1))

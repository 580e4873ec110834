"""Draws a receptive field to a file: its growth, and after how many layers each token is reached. Needs matplotlib."""

from typing import TYPE_CHECKING

import numpy as np

from maskdsl.analysis.reach.arrival import Arrival
from maskdsl.analysis.reach.receptive_field import Field
from maskdsl.analysis.tiles.block_map import Array
from maskdsl.ir.declared.sequences import Sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DIRECTIONS = {"draws_from": "draws from", "read_by": "is read by"}
_COLUMNS = 512
"""The most columns of the map of a sequence without a grid."""
_RESOLUTION = 144


def save_figure(field: Field, title: str, tokens: Sequence, path: str) -> None:
    """Writes a picture in the format of the file's suffix. Raises `ImportError` without matplotlib, or `OSError`."""
    from matplotlib.figure import Figure  # an optional dependency

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    curves, *maps = figure.subplots(1, 3)
    figure.suptitle(f"{title}, from token {field.token}")
    for name, arrival in field.directions.items():
        _draw_growth(curves, arrival, field.layers, _DIRECTIONS[name])
    curves.set(xlabel="layers", ylabel="tokens", yscale="log")
    curves.legend()
    for axes, (name, arrival) in zip(maps, field.directions.items(), strict=True):
        values, extent = _arrival_map(arrival, field, tokens)
        style = {"aspect": "auto", "interpolation": "nearest", "cmap": "viridis_r", "vmin": 0}
        image = axes.imshow(values, extent=extent, **style)
        axes.set(title=f"{_DIRECTIONS[name]}, after how many layers")
        figure.colorbar(image, ax=axes)
    figure.savefig(path, dpi=_RESOLUTION)


def _draw_growth(axes: "Axes", arrival: Arrival, layers: int, name: str) -> None:
    numbers = range(layers + 1)
    least, most = zip(*(arrival.count(number) for number in numbers), strict=True)
    (line,) = axes.plot(numbers, most, marker=".", label=name)
    if least != most:
        axes.fill_between(numbers, least, most, alpha=0.3, color=line.get_color())


def _arrival_map(arrival: Arrival, field: Field, tokens: Sequence) -> tuple[Array, tuple[float, ...]]:
    """Layers until each token may be reached, NaN for never; and the coordinates at left, right, bottom and top.

    [rows, columns] on the grid of the token's space, its axes before the last stacked; without a grid [layers, tokens].
    """
    values = np.where(arrival.earliest < 0, np.nan, arrival.earliest)
    spaces = zip(tokens.spaces, tokens.offsets, strict=True)
    space, offset = next(each for each in reversed(list(spaces)) if each[1] <= field.token)
    if len(space.axes) > 1:
        grid = values[offset : offset + space.size].reshape(-1, space.axes[-1].length)
        return grid, (0, grid.shape[1], grid.shape[0], 0)
    starts = np.unique(np.linspace(0, field.length, _COLUMNS, endpoint=False).astype(int))
    first = np.minimum.reduceat(np.nan_to_num(values, nan=np.inf), starts)
    lines = np.array([np.where(first <= number, first, np.nan) for number in range(field.layers + 1)])
    return lines, (0, field.length, field.layers + 0.5, -0.5)

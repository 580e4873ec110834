"""Composes a scene of a title, panels with headings and captions, a legend and notes."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from textwrap import wrap

import numpy as np

from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.view.image.scene import Grid, Label, Scene, Shape
from maskdsl.view.palette import LIGHT, Shade
from maskdsl.view.terminal.show import called, first_sentence, title

_MARGIN = 24
_GAP = 20
"""Points between panels."""
_LINE = 13
"""Points from one line of normal text to the next."""
_LETTER = 0.52
"""The average width of a letter, relative to its size."""
_TITLE = 15
_NARROWEST = 420
"""The least width of a picture in points, for titles and legends."""
_SWATCH = 9


@dataclass(frozen=True)
class Panel:
    """One map or row of frames, with its heading and its caption."""

    heading: str
    caption: tuple[str, ...]
    width: int
    height: int
    shapes: tuple[Shape, ...]
    """Shapes relative to the corner of the panel, below its heading."""


@dataclass(frozen=True)
class Title:
    """The title of a picture."""

    name: str
    size: str
    doc: str = ""


def mask_title(mask: MaskIR) -> Title:
    """The title of a mask: its name with parameters, its size and its documentation."""
    name = called(mask.name, mask.parameters).plain
    return Title(name, title(mask).plain.removeprefix(name).strip(), first_sentence(mask.doc))


@dataclass(frozen=True)
class Key:
    """An entry of the legend: some colours and their meaning."""

    colours: tuple[Shade, ...]
    words: str


def compose(head: Title, panels: Sequence[Panel], columns: int, legend: Sequence[Key], notes: Sequence[str]) -> Scene:
    """A scene of the title, the panels in so many columns, and the legend and notes below."""
    widths = [max(panel.width for panel in panels[start::columns]) for start in range(min(columns, len(panels)))]
    starts = [_MARGIN + sum(widths[:number]) + _GAP * number for number in range(len(widths))]
    inner = max(sum(widths) + _GAP * (len(widths) - 1), _NARROWEST)
    shapes: list[Shape] = []
    y = _MARGIN
    title = (head.name, _TITLE, LIGHT.text), (head.size, 10, LIGHT.quiet), (head.doc, 9, LIGHT.quiet)
    for text, points, colour in title:
        for line in _lines(text, inner, points):
            y += points + 4
            shapes.append(Label(_MARGIN, y, line, points, bold=text is head.name, colour=colour))
    y += _GAP
    for start in range(0, len(panels), columns):
        row = panels[start : start + columns]
        heads, feet = ([_lines_of(panel, above) for panel in row] for above in (True, False))
        top = y + _LINE * max(map(len, heads))
        body = max(panel.height for panel in row)
        for number, (x, panel) in enumerate(zip(starts, row, strict=False)):
            shapes += _written(heads[number], x, top - _LINE * len(heads[number]), bold=True)
            shapes += (_moved(shape, x, top + 4) for shape in panel.shapes)
            shapes += _written(feet[number], x, top + 4 + panel.height)
        y = top + 4 + body + _LINE * max(map(len, feet)) + _GAP
    for keys in _key_lines(legend, inner):
        shapes += _keys(keys, y)
        y += _LINE
    for note in notes:
        below = _lines(note, inner, 9)
        shapes += _written(below, _MARGIN, y)
        y += _LINE * len(below)
    return Scene(inner + 2 * _MARGIN, y + _MARGIN, tuple(shapes))


def _lines(text: str, width: int, size: int) -> list[str]:
    return wrap(text, max(8, int(width / (_LETTER * size))))


def _lines_of(panel: Panel, above: bool) -> list[str]:
    """The lines of a panel's heading, or of its caption."""
    texts = (panel.heading,) if above else panel.caption
    return [line for text in texts for line in _lines(text, panel.width, 9)]


def _written(texts: Sequence[str], x: int, y: int, bold: bool = False) -> Iterator[Label]:
    """Lines one below the other."""
    for number, text in enumerate(texts):
        yield Label(x, y + _LINE * (number + 1), text, 9, bold=bold)


def _moved(shape: Shape, x: int, y: int) -> Shape:
    return replace(shape, x=shape.x + x, y=shape.y + y)


def _key_lines(legend: Sequence[Key], width: int) -> list[list[Key]]:
    """The entries of a legend by lines of at most this width."""
    lines: list[list[Key]] = [[]]
    for key in legend:
        if lines[-1] and sum(map(_room, (*lines[-1], key))) > width:
            lines.append([])
        lines[-1].append(key)
    return lines


def _room(key: Key) -> int:
    """The points that an entry takes, with the gap behind it."""
    return _SWATCH * len(key.colours) + 5 + int(len(key.words) * _LETTER * 9) + 14


def _keys(legend: Sequence[Key], y: int) -> Iterator[Shape]:
    """The shapes of a line of the legend."""
    x = _MARGIN
    for key in legend:
        yield Grid(x, y, _SWATCH, np.arange(len(key.colours))[None, :], key.colours)
        yield Label(x + _SWATCH * len(key.colours) + 5, y + _SWATCH - 1, key.words, 9)
        x += _room(key)

"""Writes a scene as an SVG file (W3C, SVG 1.1). Equal scenes give equal bytes."""

from collections.abc import Iterator

from maskdsl.base.text import markup
from maskdsl.view.image.scene import Grid, Label, Outline, Scene, Shape
from maskdsl.view.palette import Shade

_FONT = "Helvetica, Arial, sans-serif"


def svg(scene: Scene) -> bytes:
    """The bytes of an SVG file."""
    size = f'width="{scene.width}" height="{scene.height}" viewBox="0 0 {scene.width} {scene.height}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}">']
    lines.append('<rect width="100%" height="100%" fill="#ffffff"/>')
    lines += [line for shape in scene.shapes for line in _element(shape)]
    return "\n".join([*lines, "</svg>", ""]).encode()


def _element(shape: Shape) -> Iterator[str]:
    match shape:
        case Grid():
            yield '<g shape-rendering="crispEdges">'
            for number, boxes in shape.runs().items():
                path = "".join(f"M{x} {y}h{width}v{height}h-{width}z" for x, y, width, height in boxes.tolist())
                yield f'<path fill="{_colour(shape.colours[number])}" d="{path}"/>'
            yield "</g>"
        case Outline(x=x, y=y, width=width, height=height, thickness=thick):
            half = thick / 2
            box = f'x="{x + half:g}" y="{y + half:g}" width="{width - thick:g}" height="{height - thick:g}"'
            yield f'<rect {box} fill="none" stroke="{_colour(shape.colour)}" stroke-width="{thick:g}"/>'
        case Label(x=x, y=y):
            turned = f' transform="rotate(-90 {x} {y})"' if shape.upward else ""
            bold = ' font-weight="bold"' if shape.bold else ""
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            style = f'font-size="{shape.size}" fill="{_colour(shape.colour)}"{bold}{anchor}{turned}'
            yield f'<text x="{x}" y="{y}" {style}>{markup(shape.text)}</text>'


def _colour(shade: Shade) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in shade)

"""Writes a scene as a PDF file of one page (ISO 32000, 1.4). Equal scenes give equal bytes.

Text is in Helvetica, which every reader has; letters outside Windows' code page 1252 become question marks.
"""

import zlib
from collections.abc import Iterator

from maskdsl.base.text import pdf_string
from maskdsl.view.image.scene import Anchor, Grid, Label, Outline, Scene, Shape
from maskdsl.view.palette import Shade

_DIGIT, _NARROW, _OTHER = 0.556, 0.278, 0.53
"""Widths of letters relative to their size: exact for digits and narrow signs, an average for others."""
_SHARES = {Anchor.START: 0.0, Anchor.MIDDLE: 0.5, Anchor.END: 1.0}
"""The share of a label's width that is before its anchor."""


def pdf(scene: Scene) -> bytes:
    """The bytes of a PDF file. A point of the scene is a point of the page."""
    drawn = "\n".join(line for shape in scene.shapes for line in _operations(shape, scene.height))
    content = zlib.compress(drawn.encode("cp1252", "replace"), 9)
    fonts = "<< /F1 5 0 R /F2 6 0 R >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {scene.width} {scene.height}] /Contents 4 0 R"
        f" /Resources << /Font {fonts} >> >>".encode(),
        f"<< /Length {len(content)} /Filter /FlateDecode >>\nstream\n".encode() + content + b"\nendstream",
        *(
            f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>".encode()
            for name in ("Helvetica", "Helvetica-Bold")
        ),
    ]
    return _assembled(objects)


def _assembled(objects: list[bytes]) -> bytes:
    """The bytes of a file with these objects, numbered from 1, and the table of their offsets."""
    pieces, starts, length = [b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n"], [], 0
    for number, content in enumerate(objects, start=1):
        length += len(pieces[-1])
        starts.append(length)
        pieces.append(f"{number} 0 obj\n".encode() + content + b"\nendobj\n")
    table = "".join(f"{start:010} 00000 n \n" for start in starts)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return b"".join(pieces) + f"{end}startxref\n{length + len(pieces[-1])}\n%%EOF\n".encode()


def _operations(shape: Shape, height: int) -> Iterator[str]:
    """The drawing operations of a shape, on a page of this height: PDF measures y from the bottom."""
    match shape:
        case Grid():
            for number, boxes in shape.runs().items():
                yield f"{_colour(shape.colours[number])} rg"
                yield from (f"{x} {height - y - tall} {wide} {tall} re" for x, y, wide, tall in boxes.tolist())
                yield "f"
        case Outline(x=x, y=y, width=wide, height=tall, thickness=thick):
            yield f"{_colour(shape.colour)} RG {thick:g} w"
            corner = f"{x + thick / 2:g} {height - y - tall + thick / 2:g}"
            yield f"{corner} {wide - thick:g} {tall - thick:g} re S"
        case Label(x=x, y=y, size=size):
            before = _SHARES[shape.anchor] * size * sum(map(_letter_width, shape.text))
            matrix = f"0 1 -1 0 {x} {height - y - before:g}" if shape.upward else f"1 0 0 1 {x - before:g} {height - y}"
            font = "/F2" if shape.bold else "/F1"
            yield f"BT {_colour(shape.colour)} rg {font} {size} Tf {matrix} Tm ({pdf_string(shape.text)}) Tj ET"


def _letter_width(letter: str) -> float:
    return _DIGIT if letter.isdigit() else _NARROW if letter in ",. :;!|()ijlt" else _OTHER


def _colour(shade: Shade) -> str:
    return " ".join(f"{channel / 255:.4g}" for channel in shade)

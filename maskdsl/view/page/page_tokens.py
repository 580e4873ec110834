"""The data of the tokens of one side: spaces, and the values of their coordinates."""

from collections.abc import Mapping
from typing import Any

from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.declared.sequences import Sequence
from maskdsl.ir.expressions import Coordinate, Side
from maskdsl.ir.facts.trace import trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.coordinates import Coordinates
from maskdsl.ir.ops import Array
from maskdsl.view.page.blobs import Blobs

Arrays = Mapping[str, Array]


def side(mask: MaskIR, sequence: Sequence, inputs: Arrays, heads: list[int], blobs: Blobs) -> dict[str, Any]:
    """The data of one side. `heads` are the first heads of the head classes; some columns are kept for each of them."""
    known = [name for name in _names(sequence) if _is_known(sequence, name, inputs)]
    columns = {}
    for name in known:
        kinds = trace(sequence, [Coordinate(Side.TOKEN, name)]).varies(mask)
        needed = heads if DimensionKind.HEADS in kinds else heads[:1]
        columns[name] = [blobs.add(Coordinates(mask, sequence, inputs, 0, head).values(name)) for head in needed]
    spaces = [
        {
            "name": space.name,
            "offset": offset,
            "size": space.size,
            "axes": [[axis.name, axis.length] for axis in space.axes],
            "coordinates": [name for name in known if sequence.has(space, name)],
        }
        for space, offset in zip(sequence.spaces, sequence.offsets, strict=True)
    ]
    return {"length": sequence.length, "spaces": spaces, "columns": columns}


def _names(sequence: Sequence) -> list[str]:
    """All coordinates except `i`, axes first."""
    axes = [axis.name for space in sequence.spaces for axis in space.axes]
    return list(dict.fromkeys([*axes, *(each.name for each in sequence.coordinates)]))


def _is_known(sequence: Sequence, name: str, inputs: Arrays) -> bool:
    """Whether all inputs of a coordinate are given; inputs that only scores read may be missing."""
    return trace(sequence, [Coordinate(Side.TOKEN, name)]).inputs <= inputs.keys()

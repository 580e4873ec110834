"""Reads arrays of a safetensors file by name, without torch and without reading the others."""

import json
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.base.diagnostics import AttnError, nearest_name
from maskdsl.base.errors.commands import tensors as errors

_HEADER = 1 << 24
"""The most bytes of a header."""
MOST = 1 << 32
"""The most bytes of all tensors that are read."""
_NAMES = 12
"""The most names of tensors that an error lists."""
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
"""NumPy's types by those of the file; bfloat16 is read as bits."""


def read_tensors(file: str, names: Iterable[str], required: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
    """The tensors of these names that the file has; bfloat16 becomes float32. Raises `AttnError` (E550 to E553)."""
    header, start = _read_header(file)
    missing = [name for name in required if name not in header]
    if missing:
        listed = [f"`{name}`" for name in sorted(header)]
        known = ", ".join(listed[:_NAMES]) + (f" and {len(listed) - _NAMES} more" if len(listed) > _NAMES else "")
        raise AttnError(
            *(
                errors.MissingTensor(file=file, name=name, known=known or "none", nearest=nearest_name(name, header))
                for name in missing
            )
        )
    wanted = {name: header[name] for name in names if name in header}
    for name, entry in wanted.items():
        if entry["dtype"] not in _TYPES:
            raise AttnError(errors.TensorType(file=file, name=name, found=entry["dtype"]))
    total = sum(prod(entry["shape"]) * np.dtype(_TYPES[entry["dtype"]]).itemsize for entry in wanted.values())
    if total > MOST:
        raise AttnError(errors.TensorsTooLarge(file=file, size=total, limit=MOST))
    return {name: _read_tensor(file, entry, start) for name, entry in wanted.items()}


def _read_header(file: str) -> tuple[dict[str, Any], int]:
    """The header's entry of each tensor, checked by safetensors, and the offset of the first tensor's bytes."""
    from safetensors import SafetensorError, safe_open  # start-up time

    try:
        with Path(file).open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _HEADER:
                raise AttnError(errors.UnreadableTensors(file=file, reason=f"its header would be {length} bytes long"))
            header = stream.read(length)
        with safe_open(file, framework="np"):
            pass
    except (OSError, ValueError) as error:  # ValueError: an impossible path
        reason = getattr(error, "strerror", None) or str(error)
        raise AttnError(errors.UnreadableTensors(file=file, reason=reason)) from None
    except SafetensorError as error:
        raise AttnError(errors.UnreadableTensors(file=file, reason=str(error).lower())) from None
    entries = json.loads(header)
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}, 8 + length


def _read_tensor(file: str, entry: dict[str, Any], start: int) -> NDArray[Any]:
    """Reads the bytes of one tensor only."""
    begin, _ = entry["data_offsets"]
    with Path(file).open("rb") as stream:
        stream.seek(start + begin)
        flat = np.fromfile(stream, dtype=_TYPES[entry["dtype"]], count=prod(entry["shape"]))
    if entry["dtype"] == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(entry["shape"])

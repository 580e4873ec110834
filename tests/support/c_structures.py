"""The structures of `codegen/native.c` as ctypes knows them, read from its text: fields of an array are pointers."""

import re
from ctypes import Structure, c_float, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

from maskdsl.emit.skeleton import read_c

_STRUCTURE = re.compile(r"typedef struct \{([^}]*)\} (\w+);")
_NUMBERS: dict[str, Any] = {"int32_t": c_int32, "int64_t": c_int64, "float": c_float}


@cache
def structures() -> dict[str, type[Structure]]:
    """`tensor`, `run`, `row` and `call`, with all fields in order."""
    text = re.sub(r"/\*.*?\*/", "", read_c("native"), flags=re.DOTALL)
    made: dict[str, type[Structure]] = {}
    for body, name in _STRUCTURE.findall(text):
        kinds = _NUMBERS | made
        fields = []
        for line in filter(str.strip, body.split(";")):
            kind, names = line.replace("const", "").strip().split(maxsplit=1)
            for each in map(str.strip, names.split(",")):
                fields.append((each.strip("* "), c_void_p if each.startswith("*") else kinds[kind]))
        made[name] = type(name, (Structure,), {"_fields_": fields})
        if name == "call":
            break
    return made


def pointers(kind: type[Structure], before: str = "", offset: int = 0) -> dict[str, int]:
    """The offsets of all pointers of a structure: those of a tensor by the tensor's name."""
    found = {}
    for name, field, *_ in kind._fields_:
        at = offset + getattr(kind, name).offset
        if field is c_void_p:
            found[before or name] = at
        elif issubclass(field, Structure):
            found |= pointers(field, name, at)
    return found


def constant(name: str) -> int:
    """A number that the text defines."""
    (value,) = re.findall(rf"^#define {name} (\d+)\b", read_c("native"), re.MULTILINE)
    return int(value)

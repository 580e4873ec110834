"""Content hashes: equal values have equal digests, in every process."""

from dataclasses import fields, is_dataclass
from hashlib import blake2b


def digest(value: object) -> str:
    """32 hex digits for a value of dataclasses, tuples, lists, numbers, strings and None. Ignores `compare=False`."""
    return _hashed(value, {}).hex()


def _hashed(value: object, known: dict[int, bytes]) -> bytes:
    """`known` maps the `id` of a value to its hash: subexpressions that are shared are hashed once."""
    if id(value) not in known:
        if is_dataclass(value):
            pieces = [_hashed(getattr(value, each.name), known) for each in fields(value) if each.compare]
        elif isinstance(value, tuple | list):
            pieces = [_hashed(each, known) for each in value]
        elif isinstance(value, int):
            pieces = [f"{value:x}".encode()]  # Python limits the length of decimal integers, not of hexadecimal ones
        else:
            pieces = [repr(value).encode()]
        known[id(value)] = blake2b(b"".join([type(value).__name__.encode(), b":", *pieces]), digest_size=16).digest()
    return known[id(value)]

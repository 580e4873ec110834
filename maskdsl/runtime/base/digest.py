"""A short name for a value: equal values have equal names, in every process."""

from dataclasses import fields, is_dataclass
from hashlib import blake2b


def digest(value: object) -> str:
    """Of dataclasses, tuples, lists, numbers, strings, None. Fields that take no part in comparisons take none here."""
    return _hashed(value, {}).hex()


def _hashed(value: object, known: dict[int, bytes]) -> bytes:
    """`known` by identity: expressions share parts, which are looked at once."""
    if id(value) not in known:
        if is_dataclass(value):
            parts = [_hashed(getattr(value, each.name), known) for each in fields(value) if each.compare]
        elif isinstance(value, tuple | list):
            parts = [_hashed(each, known) for each in value]
        elif isinstance(value, int):
            parts = [f"{value:x}".encode()]  # of any size, which decimal digits are not
        else:
            parts = [repr(value).encode()]
        known[id(value)] = blake2b(b"".join([type(value).__name__.encode(), b":", *parts]), digest_size=16).digest()
    return known[id(value)]

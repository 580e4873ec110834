"""Packages whose modules are imported when they are first read, so that a start imports only what it needs."""

from collections.abc import Callable
from importlib import import_module
from types import ModuleType


def late_modules(package: str) -> Callable[[str], ModuleType]:
    """The `__getattr__` of a package that gives its modules by name."""

    def module(name: str) -> ModuleType:
        full = f"{package}.{name}"
        try:
            return import_module(full)
        except ModuleNotFoundError as error:
            if error.name != full:
                raise
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None

    return module

"""A registry of compiled masks by handle. Graphs and exported programs hold only handles. Imports no kernels.

Equal entries have equal handles in every process. An entry stays registered after its last user is gone, but its caches
are freed.
"""

from collections import OrderedDict
from functools import lru_cache
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import UnknownHandle

_MOST_KNOWN = 4096
"""Registered entries; the least recently registered are dropped beyond."""
_MOST_REVIVED = 16
"""Entries without users that keep their caches: those looked up last."""


class Entry(Protocol):
    """A value with a handle. Immutable except for its caches."""

    @property
    def handle(self) -> str:
        """A digest: equal entries have equal handles."""

    def fresh(self) -> Any:
        """An equal entry with empty caches."""


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """Entries by handle. Thread-safe."""

    def __init__(self) -> None:
        self.used: WeakValueDictionary[str, E] = WeakValueDictionary()
        self.known: OrderedDict[str, E] = OrderedDict()
        self.lock = Lock()
        self.revived = lru_cache(maxsize=_MOST_REVIVED)(self.revive)

    def register(self, entry: E) -> E:
        """Registers an entry. Returns the live entry of this handle, which equal entries share."""
        with self.lock:
            if entry.handle not in self.known:
                self.known[entry.handle] = entry.fresh()
            self.known.move_to_end(entry.handle)
            while len(self.known) > _MOST_KNOWN:
                self.known.popitem(last=False)
            return self.used.setdefault(entry.handle, entry)

    def find(self, handle: str) -> E:
        """The entry of this handle. Raises `UnknownHandle` if this process has not compiled it."""
        entry = self.used.get(handle)
        return self.revived(handle) if entry is None else entry

    def revive(self, handle: str) -> E:
        """A fresh entry of a handle that only graphs hold."""
        if handle not in self.known:
            raise AttnError(UnknownHandle(handle=handle))
        entry: E = self.known[handle].fresh()
        return self.register(entry)

"""A registry of compiled masks by handle. Graphs hold only handles. Imports no kernels.

Equal entries have equal handles in every process. An entry stays registered after its last user is gone, but its caches
are freed. Exported programs, which run in other processes, hold a handle with the text of its entry behind it.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import OtherPattern, UnknownHandle

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
        self.make: Callable[[str], E] | None = None
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
        """The entry of this handle. Raises `AttnError` if this process has not compiled it, and no text makes it."""
        entry = self.used.get(handle)
        return self.revived(handle) if entry is None else entry

    def make_by(self, make: Callable[[str], E]) -> None:
        """Entries are made of their texts by this function, of the module that knows all kinds of entries."""
        self.make = make

    def revive(self, handle: str) -> E:
        """A fresh entry of a handle that only graphs hold, or exported programs."""
        name, _, text = handle.partition(" ")
        if name not in self.known:
            if self.make is None or not text:
                raise AttnError(UnknownHandle(handle=name))
            made = self.make(text)
            if made.handle != name:
                raise AttnError(OtherPattern())
            return self.register(made)
        entry: E = self.known[name].fresh()
        return self.register(entry)

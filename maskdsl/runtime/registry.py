"""What this process has compiled, by handle: graphs and exported programs hold handles alone. Knows nothing of kernels.

Equal entries have equal handles in every process. What is compiled stays known after everything that held it is gone,
without what it had kept.
"""

from collections import OrderedDict
from functools import lru_cache
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.backends import UnknownHandle

_MOST_KNOWN = 4096
"""Entries remembered that nothing holds any more."""
_MOST_REVIVED = 16
"""Of these, the last ones that were asked for keep what they have made."""


class Entry(Protocol):
    """What has a handle. Immutable but for what it keeps."""

    @property
    def handle(self) -> str:
        """Equal entries have equal ones."""

    def bare(self) -> Any:
        """Equal, and without what this one has kept."""


E = TypeVar("E", bound=Entry)


class Registry(Generic[E]):
    """Entries by handle. Safe to share between threads."""

    def __init__(self) -> None:
        self.used: WeakValueDictionary[str, E] = WeakValueDictionary()
        self.known: OrderedDict[str, E] = OrderedDict()
        self.lock = Lock()
        self.revived = lru_cache(maxsize=_MOST_REVIVED)(self.revive)

    def register(self, entry: E) -> E:
        """The entry that all equal ones share."""
        with self.lock:
            if entry.handle not in self.known:
                self.known[entry.handle] = entry.bare()
            self.known.move_to_end(entry.handle)
            while len(self.known) > _MOST_KNOWN:
                self.known.popitem(last=False)
            return self.used.setdefault(entry.handle, entry)

    def find(self, handle: str) -> E:
        """The entry of this handle. Raises if this process has not compiled it."""
        found = self.used.get(handle)
        return self.revived(handle) if found is None else found

    def revive(self, handle: str) -> E:
        """One that only graphs use."""
        if handle not in self.known:
            raise AttnError(UnknownHandle(handle=handle))
        entry: E = self.known[handle].bare()
        return self.register(entry)

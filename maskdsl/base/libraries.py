"""Libraries that only extras install: what to raise where one is missing."""

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.libraries import MissingLibrary


class _MissingLibraryError(AttnError, ImportError):
    """Raised where a library of an extra is needed and cannot be imported."""


def missing(error: ImportError, what: str, library: str, extra: str | None = None) -> AttnError:
    """What to raise where `what` needs a library that an extra, by default of the same name, installs."""
    return _MissingLibraryError(MissingLibrary(what=what, library=library, extra=extra or library, reason=str(error)))

"""Writes the files that commands make."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.command import NotWritten


@contextmanager
def writing(file: str) -> Iterator[None]:
    """What is inside writes this file. Raises `AttnError` (E512) if that fails."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: an impossible path
        folder = Path(file).parent
        absent = isinstance(error, FileNotFoundError) and not folder.exists()
        advice = f"the folder `{folder}` does not exist" if absent else ""
        reason = getattr(error, "strerror", None) or str(error)
        raise AttnError(NotWritten(file=file, reason=reason, advice=advice)) from None

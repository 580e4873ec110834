"""The command line called in this process."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from maskdsl.cli import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def maskdsl(capsys, monkeypatch) -> Callable[..., Ended]:
    """Runs a command without a terminal."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def call(*words: object, columns: int = 80) -> Ended:
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit) as exit:
            main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ended(int(exit.value.code or 0), captured.out, captured.err)

    return call

"""The command line, and files for it."""

import pytest

from tests.support.command_line import maskdsl

__all__ = ["maskdsl"]


@pytest.fixture
def pattern_file(tmp_path):
    """Writes a file, and gives its path."""

    def write(text: str, name: str = "some.attn") -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


LOCAL = "pattern local(n = 64, size = 9) {\n    space tokens[n]\n    attend window(size)\n}\n"


@pytest.fixture
def local(pattern_file):
    return pattern_file(LOCAL, "local.attn")

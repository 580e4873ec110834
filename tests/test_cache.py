"""What is kept on disk: whole or not at all, and read only when nobody else can have written it."""

from pathlib import Path

import pytest

from maskdsl.cache import CACHE_VARIABLE, cache_directory, keep, kept, write_whole


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_kept_again() -> None:
    assert kept("a") is None
    keep("a", b"content")
    keep("a", b"new content")
    assert kept("a") == b"new content" and kept("b") is None


def test_damaged_content_is_not_read(directory: Path) -> None:
    keep("a", b"content")
    stored = (directory / "a").read_bytes()
    for damaged in (b"", stored[:-1], stored[:33], b"\0" + stored[1:], stored + b"x"):
        (directory / "a").write_bytes(damaged)
        assert kept("a") is None


def test_what_others_could_have_written_is_not_read(directory: Path) -> None:
    keep("a", b"content")
    directory.chmod(0o777)
    assert kept("a") is None
    directory.chmod(0o700)
    (directory / "a").chmod(0o666)
    assert kept("a") is None


def test_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    keep("a", b"content")
    assert kept("a") is None and not write_whole(cache_directory() / "b", b"")


def test_no_leftovers(directory: Path) -> None:
    for number in range(5):
        keep("a", bytes(number))
    assert [path.name for path in directory.iterdir()] == ["a"]

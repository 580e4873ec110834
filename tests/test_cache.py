"""What is kept on disk: whole or not at all, and read only when nobody else can have written it."""

import os
import pickle
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maskdsl.base.cache import CACHE_VARIABLE, cache_directory, keep, kept, read_whole, write_whole
from maskdsl.runtime.backends import tuning
from maskdsl.runtime.base import module_cache
from maskdsl.syntax import parse, standard_library


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


def put_pipe(path: Path) -> None:
    os.mkfifo(path)


def put_folder(path: Path) -> None:
    path.mkdir()


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def put_link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_link_to_a_file(path: Path) -> None:
    """Of the user's own, and just what would be read."""
    elsewhere = path.parent / "elsewhere"
    elsewhere.write_bytes(path.read_bytes() if path.is_file() else b"")
    path.unlink(missing_ok=True)
    path.symlink_to(elsewhere)


def put_circle(path: Path) -> None:
    path.symlink_to(path.name)


ODD = [put_pipe, put_folder, put_socket, put_link_to_a_device, put_link_to_a_file, put_circle]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("put", ODD)
def test_only_plain_files_are_read(directory: Path, put: Callable[[Path], None]) -> None:
    keep("a", b"content")
    if put is not put_link_to_a_file:
        (directory / "a").unlink()
    put(directory / "a")
    assert kept("a") is None and read_whole(directory / "a") is None
    keep("a", b"new content")
    assert kept("a") == (None if put is put_folder else b"new content")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("put", ODD)
def test_modules_and_choices_behind_odd_files(directory: Path, put: Callable[[Path], None]) -> None:
    text = "X = 1\n"
    path = module_cache.stored(text, "a.py")
    assert path is not None
    if put is not put_link_to_a_file:
        path.unlink()
    put(path)
    assert module_cache.stored(text, "a.py") == (None if put is put_folder else path)
    assert put is put_folder or (path.read_text() == text and not path.is_symlink())
    choice = directory / "choice"
    put(choice)
    assert tuning.stored(choice) is None


def test_a_choice_that_says_anything(directory: Path) -> None:
    for content in (b"\xff", b"[" * 100_000, b"{}", b"[1]", b'{"choice": 3}', b"", b'"a"'):
        write_whole(directory / "choice", content)
        assert tuning.stored(directory / "choice") is None


def test_folders_are_for_the_user_alone(directory: Path) -> None:
    before = os.umask(0)
    try:
        write_whole(directory / "deep" / "deeper" / "a", b"content")
    finally:
        os.umask(before)
    for folder in (directory, directory / "deep", directory / "deep" / "deeper"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


class Poison:
    """A pickle that cannot be loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (int, ("no number",))


@pytest.mark.parametrize("tables", [b"", b"no pickle", pickle.dumps(Poison()), pickle.dumps({"data": {}, "memo": {}})])
def test_tables_that_do_not_load_are_made_anew(directory: Path, tables: bytes) -> None:
    parser = parse._lark.__wrapped__
    parser()
    (file,) = directory.iterdir()
    keep(file.name, tables)
    assert parser().parse("def a() = 1", start="file").data == "file"
    assert kept(file.name) not in (None, tables)


def test_tables_of_another_lark_are_made_anew(directory: Path) -> None:
    """They load, and fail at their first word."""
    parser = parse._lark.__wrapped__
    parser()
    (file,) = directory.iterdir()
    content = kept(file.name)
    assert content is not None
    tables = pickle.loads(content)
    tables["data"]["parser"]["parser"]["states"].clear()
    keep(file.name, pickle.dumps(tables))
    assert parser().parse("def a() = 1", start="file").data == "file"


@pytest.fixture
def fresh_library() -> Iterator[Callable[[], object]]:
    """The standard library as a new process finds it."""

    def found() -> object:
        standard_library.standard_library.cache_clear()
        return standard_library.standard_library()

    yield found
    standard_library.standard_library.cache_clear()


def test_the_standard_library_is_kept(
    directory: Path, fresh_library: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = fresh_library()
    monkeypatch.setattr(standard_library, "parse", None)
    assert fresh_library() == parsed


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(Poison()), pickle.dumps({"data": {}})])
def test_a_library_that_does_not_load_is_parsed(
    directory: Path, fresh_library: Callable[[], object], content: bytes
) -> None:
    parsed = fresh_library()
    (file,) = directory.glob("standard_*.tree")
    keep(file.name, content)
    assert fresh_library() == parsed
    assert kept(file.name) != content

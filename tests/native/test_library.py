"""The compiled C of the native backend: kept, checked, made again, and absent with a reason. Never an exception."""

import multiprocessing
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import pytest
import torch

import maskdsl
from maskdsl.base import cache
from maskdsl.base.cache import CACHE_VARIABLE, keep
from maskdsl.base.text import FORBIDDEN
from maskdsl.emit.native_scores import NativeText
from maskdsl.runtime.backends.native import c_compiler, library
from maskdsl.runtime.backends.native.library import NativeLibrary
from maskdsl.runtime.backends.native.native_calls import filled_functions
from tests.support.compiled_c import NEEDS_COMPILER, TEXT, compiler_of_this_machine

Script = Callable[[str], Path]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return tmp_path / "temporary"


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of what is kept."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(library.VARIABLE, raising=False)
    monkeypatch.setattr(library, "plain_native", lambda: NativeText(TEXT))
    return tmp_path / "cache" / "native"


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Makes a script the C compiler."""

    def made(script: str) -> Path:
        path = tmp_path / "my cc"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setenv("CC", f"'{path}'")
        return path

    return made


def again() -> NativeLibrary:
    """As a new process finds it."""
    return library.native_library.__wrapped__()


def version(loaded: NativeLibrary) -> int:
    assert loaded.functions is not None, loaded.why_not
    assert (loaded.why_not, loaded.advice) == ("", "")
    return int(loaded.functions.maskdsl_native_version())


def reason(loaded: NativeLibrary) -> str:
    assert loaded.functions is None and not loaded.is_cached and loaded.advice
    assert "\n" not in loaded.why_not + loaded.advice and not FORBIDDEN.search(loaded.why_not)
    return loaded.why_not


@NEEDS_COMPILER
def test_the_file_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    functions = library.library()
    assert functions is not None and functions is library.library()
    assert functions.maskdsl_native_version() == 1


@NEEDS_COMPILER
def test_compiled_once(kept: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = again()
    assert version(first) == 7 and not first.is_cached and first.compiler == compiler_of_this_machine()
    monkeypatch.setattr(library, "shared_library", None)
    second = again()
    assert version(second) == 7 and second.is_cached
    (file,) = kept.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700 and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not [*temporary.iterdir()]


@NEEDS_COMPILER
@pytest.mark.parametrize("changed", ["text", "flags", "processor", "compiler", "words", "file of the compiler"])
def test_what_it_depends_on(changed: str, kept: Path, monkeypatch: pytest.MonkeyPatch, compiler: Script) -> None:
    path = compiler(f'exec {compiler_of_this_machine()} "$@"')
    assert not again().is_cached and again().is_cached
    match changed:
        case "text":
            monkeypatch.setattr(library, "plain_native", lambda: NativeText(TEXT + "\n"))
        case "flags":
            monkeypatch.setattr(library, "flags", lambda: (*c_compiler.flags(), "-DOTHER"))
        case "processor":
            monkeypatch.setattr(library, "processor", lambda: "another")
        case "compiler":
            monkeypatch.delenv("CC")
        case "words":
            monkeypatch.setenv("CC", f"'{path}' -DOTHER")
        case _:
            os.utime(path, ns=(0, 0))
    assert not again().is_cached and again().is_cached
    assert len([*kept.iterdir()]) == 2


CPU = "processor : 0\nvendor_id : Some\nmodel : 17\nmodel name : Fast {mhz}\ncpu MHz : {mhz}\nflags : fpu {flag}\n\n"
ARM = "processor : 0\nBogoMIPS : {mhz}\nFeatures : fp asimd {flag}\nCPU implementer : 0x41\nCPU part : 0xd0c\n\n"


@pytest.mark.parametrize("described", [CPU, ARM])
def test_processors(described: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(c_compiler, "_CPU_INFO", file)

    def processor(mhz: str, flag: str) -> str:
        file.write_text(described.format(mhz=mhz, flag=flag) + CPU)
        return c_compiler.processor()

    assert processor("1", "a") == processor("2", "a") != processor("1", "b")


@pytest.mark.parametrize("described", [None, "", "\nflags : late\n", "bogus"])
def test_processors_of_which_nothing_is_known(
    described: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then what is compiled is for one machine."""
    monkeypatch.setattr(c_compiler, "_CPU_INFO", tmp_path / "cpuinfo")
    if described is not None:
        (tmp_path / "cpuinfo").write_text(described)
    known = []
    for name in ("one", "another"):
        monkeypatch.setattr(c_compiler.platform, "node", lambda name=name: name)
        known.append(c_compiler.processor())
    assert known[0] != known[1]


@NEEDS_COMPILER
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "no library", "a pipe", "a link", "for all to write"])
def test_what_is_damaged_is_made_again(damage: str, kept: Path, tmp_path: Path) -> None:
    again()
    (file,) = kept.iterdir()
    content = file.read_bytes()
    match damage:
        case "flipped":
            file.write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
        case "cut":
            file.write_bytes(content[:-1])
        case "emptied":
            file.write_bytes(b"")
        case "no library":
            keep(f"native/{file.name}", b"with a digest that is right")
        case "a pipe":
            file.unlink()
            os.mkfifo(file)
        case "a link":
            (tmp_path / "elsewhere").write_bytes(content)
            file.unlink()
            file.symlink_to(tmp_path / "elsewhere")
        case _:
            file.chmod(0o666)
    made = again()
    assert version(made) == 7 and not made.is_cached
    assert again().is_cached and [*kept.iterdir()] == [file]


@NEEDS_COMPILER
@pytest.mark.parametrize("whose", ["for all to write", "another user's"])
def test_folders_of_others_are_not_read(whose: str, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again()
    if whose == "for all to write":
        kept.chmod(0o777)
    else:
        monkeypatch.setattr(cache.os, "getuid", lambda: kept.stat().st_uid + 1)
    for _ in range(2):
        made = again()
        assert version(made) == 7 and not made.is_cached


@NEEDS_COMPILER
def test_a_cache_that_cannot_be_written(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "below"))
    assert version(again()) == 7 and not again().is_cached
    assert not [*temporary.iterdir()]


@NEEDS_COMPILER
def test_temporary_files_that_nobody_may_load(kept: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that is mounted `noexec`."""

    def load(path: str) -> CDLL:
        if Path(path).is_relative_to(temporary):
            raise OSError("failed to map segment from shared object")
        return CDLL(path)

    monkeypatch.setattr(library, "CDLL", load)
    assert version(again()) == 7 and again().is_cached
    assert [*kept.parent.iterdir()] == [kept] and len([*kept.iterdir()]) == 1


@NEEDS_COMPILER
def test_temporary_files_that_others_can_replace(kept: Path, temporary: Path, tmp_path: Path, compiler: Script) -> None:
    """Then it is compiled and loaded in the cache. Folders for all whose files only their owners remove are no such."""
    folder = "echo $PWD >> '" + str(tmp_path) + "/folders'"
    compiler(f'{folder}; exec {compiler_of_this_machine()} "$@"')
    temporary.chmod(0o777)
    assert version(again()) == 7 and again().is_cached
    temporary.chmod(0o1777)
    for each in kept.iterdir():
        each.unlink()
    assert version(again()) == 7 and again().is_cached
    folders = [Path(line).parent for line in (tmp_path / "folders").read_text().splitlines()]
    assert folders == [kept.parent, temporary] and not [*temporary.iterdir()]
    temporary.chmod(0o777)
    kept.parent.chmod(0o777)
    assert "other users can replace" in reason(again())


@NEEDS_COMPILER
def test_nobody_may_load_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str) -> CDLL:
        raise OSError("not permitted\n\x1b[2J")

    monkeypatch.setattr(library, "CDLL", load)
    assert "cannot be loaded: not permitted" in reason(again())


# Compilers


@NEEDS_COMPILER
@pytest.mark.parametrize("name", ["g++", "clang++", "gcc", "clang"])
def test_compilers_of_c_and_of_its_sequel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`CXX` is what torch.compile takes; either compiles C."""
    if c_compiler.shutil.which(name) is None:
        # One compiler is enough for users; each that is there has to work.
        pytest.skip(f"{name} is not installed")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("CXX", name)
    made = again()
    assert version(made) == 7 and Path(made.compiler).name == name
    monkeypatch.setenv("CC", "nothing-of-this-name")
    assert reason(again()) == "CC is `nothing-of-this-name`, which is no program on the path"


@NEEDS_COMPILER
def test_a_compiler_of_several_words(monkeypatch: pytest.MonkeyPatch) -> None:
    words = f"env LANG=C {compiler_of_this_machine()}"
    monkeypatch.setenv("CC", words)
    made = again()
    assert version(made) == 7 and made.compiler.endswith(f"/{words}")


@pytest.mark.parametrize("named", ["nothing-of-this-name", "'unclosed", "  ", "/", "a\x1b]0;x\x07\udcff"], ids=ascii)
@pytest.mark.parametrize("variable", ["CC", "CXX"])
def test_compilers_that_are_not_there(variable: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("CC", "CXX"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(variable, named)
    assert reason(again()).startswith(f"{variable} is `")


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    for each in ("CC", "CXX"):
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("PATH", "")
    made = again()
    assert reason(made) == "no C compiler is on the path" and made.compiler == "" and "install" in made.advice


FAILING = {
    "exit 3": "failed",
    "echo; printf '\\033[31mno header\\n\\n'; echo second >&2; exit 1": "failed: \ufffd[31mno header; second",
    "yes 'a line' | head -100000; exit 1": "failed: a line; a line; a line",
    "head -c 100000 /dev/zero; exit 1": "failed: " + "\ufffd" * 200,
    "kill -SEGV $$": "was ended by signal 11",
    "exit 0": "made no library",
    "mkdir native.so": "made no library",
    "echo rubbish > native.so": "cannot be loaded",
    ": > native.so": "cannot be loaded",
}


@pytest.mark.parametrize("script", FAILING)
def test_compilers_that_fail(script: str, compiler: Script, temporary: Path) -> None:
    path = compiler(script)
    made = again()
    assert FAILING[script] in reason(made) and str(path) in made.why_not and len(made.why_not) < 1000
    assert not [*temporary.iterdir()]


@NEEDS_COMPILER
def test_a_text_that_is_no_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "plain_native", lambda: NativeText('#include "private.h"\n'))
    assert "private.h" in reason(again())


def test_a_script_that_nothing_runs(compiler: Script) -> None:
    compiler("").write_text("#!/nothing/of/this/name\n")
    assert "made no library" in reason(again())


@pytest.mark.timeout(20)
def test_a_compiler_that_does_not_end(
    compiler: Script, tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither it nor what it started goes on, and what is held open by that is not waited for."""
    monkeypatch.setattr(c_compiler, "LIMIT", 0.5)
    compiler(f"sleep 60 & echo $! > '{tmp_path}/child'; wait")
    before = monotonic()
    assert "did not end within 0.5 s" in reason(again()) and monotonic() - before < 5
    child = int((tmp_path / "child").read_text())
    with suppress(ProcessLookupError):
        for _ in range(100):
            os.kill(child, 0)
            if sys.platform == "linux" and Path(f"/proc/{child}/stat").read_text().split(") ")[1][0] == "Z":
                break
            sleep(0.02)
        else:
            raise AssertionError("what the compiler started goes on")
    assert not [*temporary.iterdir()]


def test_it_may_be_forbidden(compiler: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler(f"touch '{tmp_path}/called'")
    monkeypatch.setenv(library.VARIABLE, "0")
    assert reason(again()) == "MASKDSL_NATIVE is 0" and not (tmp_path / "called").exists()
    monkeypatch.setenv(library.VARIABLE, "1")
    again()
    assert (tmp_path / "called").exists()


# Processes and threads


def report(results: "multiprocessing.Queue[tuple[int, bool]]", start: "multiprocessing.synchronize.Barrier") -> None:
    start.wait(30)
    made = again()
    results.put((version(made), made.is_cached))


@NEEDS_COMPILER
@pytest.mark.timeout(60)
def test_processes_at_once(compiler: Script, kept: Path, temporary: Path) -> None:
    """All compile, as all begin before one is done, and none is disturbed."""
    compiler(f'sleep 0.5; exec {compiler_of_this_machine()} "$@"')
    context = multiprocessing.get_context("fork")
    results, start = context.Queue(), context.Barrier(3)
    children = [context.Process(target=report, args=(results, start)) for _ in range(3)]
    for each in children:
        each.start()
    assert [results.get(timeout=30) for _ in children] == [(7, False)] * 3
    for each in children:
        each.join(30)
        assert each.exitcode == 0
    assert again().is_cached and len([*kept.iterdir()]) == 1 and not [*temporary.iterdir()]


@NEEDS_COMPILER
def test_threads_at_once() -> None:
    made: list[NativeLibrary] = []
    threads = [Thread(target=lambda: made.append(again())) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [*map(version, made)] == [7] * 3


@NEEDS_COMPILER
@pytest.mark.timeout(60)
def test_a_child_has_what_its_parent_loaded() -> None:
    made = again()
    child = os.fork()
    if child == 0:
        os._exit(version(made))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@NEEDS_COMPILER
def test_a_compiler_that_refuses_the_scores(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A warning says so, once, and the tiled backend computes them."""

    def refuse(text: str, compiler: object) -> None:
        raise c_compiler.NoLibrary("gcc ended with 1: error: impossible", "another compiler")

    pattern = maskdsl.parse("pattern p(n = 20) { space t[n] attend causal score s * log(float(q + 7)) }")["p"]
    attention = pattern.compile(backend="native")
    q, k, v = torch.randn(3, 1, 1, 20, 16)
    library.library()
    filled_functions.cache_clear()
    request.addfinalizer(filled_functions.cache_clear)  # its text is that of other scores too
    monkeypatch.setattr(library, "_functions", refuse)
    with pytest.warns(maskdsl.AttnWarning, match=r"W041[^$]*gcc ended with 1: error: impossible") as warned:
        outs = [attention(q, k, v) for _ in range(2)]
    assert len(warned) == 1
    for out in outs:
        torch.testing.assert_close(out, pattern.compile(backend="reference")(q, k, v))

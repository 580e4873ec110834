"""C to a shared library, by the C compiler of this machine: which one that is, how it is called, what can go wrong.

Imports no torch. Nothing goes through a shell, and the compiler works in a folder that only this user can enter.
"""

import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from maskdsl.base.records import dataclass
from maskdsl.base.text import printable
from maskdsl.runtime.backends.private_folders import guarded_folders, private_folder

LIMIT = 60.0
"""Seconds that the compiler may take; it needs about one."""
_NAMES = ("clang", "cc", "gcc") if sys.platform == "darwin" else ("gcc", "cc", "clang")
_MOST_LINES, _MOST_CHARACTERS = 3, 200
"""Of what the compiler says, in a reason."""
_CPU_INFO = Path("/proc/cpuinfo")
_FIELDS = {
    *("vendor_id", "cpu family", "model", "flags"),  # x86
    *("features", "cpu implementer", "cpu variant", "cpu part"),  # ARM
    *("isa", "cpu"),  # RISC-V, POWER
}
"""Of the system's description of a processor, in lower case: those that stay as they are while it runs."""


class NoLibrary(Exception):
    """There is no compiled C: why, and what to do about it. Each is one line."""

    def __init__(self, why: str, advice: str) -> None:
        super().__init__(why)
        self.why, self.advice = why, advice


@dataclass(frozen=True)
class CCompiler:
    """A command that compiles C, or C++."""

    command: tuple[str, ...]
    """Its first word is an absolute path."""

    @property
    def name(self) -> str:
        return printable(shlex.join(self.command))

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for commands of the same words that name the same programs, unchanged."""
        return (self.command, [_identity(path) for word in self.command if (path := shutil.which(word))])


def _identity(path: str) -> tuple[object, ...]:
    with suppress(OSError):  # it is gone: what calls it says so
        status = os.stat(path)
        return (os.path.realpath(path), status.st_size, status.st_mtime_ns)
    return (path,)


def c_compiler() -> CCompiler:
    """The compiler that `CC` names, or `CXX`, as torch.compile takes it, or the first one on the path.

    Raises `NoLibrary` if there is none.
    """
    variable = next((each for each in ("CC", "CXX") if os.environ.get(each)), None)
    try:
        named = [tuple(shlex.split(os.environ[variable]))] if variable else [(each,) for each in _NAMES]
    except ValueError:  # a quote that is not closed
        named = []
    for words in named:
        path = shutil.which(words[0]) if words else None
        if path is not None:
            return CCompiler((os.path.abspath(path), *words[1:]))
    if variable is None:
        advice = "install one, such as gcc; if it is not on the path, set CC to it"
        raise NoLibrary("no C compiler is on the path", advice)
    why = f"{variable} is `{printable(os.environ[variable])}`, which is no program on the path"
    raise NoLibrary(why, f"set {variable} to a C compiler, or to nothing")


def flags() -> tuple[str, ...]:
    """For this processor. Infinities and NaN keep their meaning."""
    numbers = ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
    lines = "-falign-functions=64"  # of the cache: else a change of one function makes another slower
    return ("-O2", *_processor_flag(), lines, "-std=gnu11", "-fPIC", "-shared", "-pthread", *numbers)


def _processor_flag() -> tuple[str, ...]:
    match platform.machine().lower():
        case "x86_64" | "amd64" | "i686":
            return ("-march=native",)
        case "aarch64" | "arm64":
            return ("-mcpu=native",)
        case _:
            return ()


def processor() -> str:
    """What the flag `native` depends on: machines with equal descriptions can share what is compiled."""
    try:
        with _CPU_INFO.open(encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in takewhile(str.strip, file)]  # the first one: the others are like it
    except OSError:
        lines = []
    described = [line for line in lines if line.partition(":")[0].strip().lower() in _FIELDS]
    return "\n".join([platform.machine(), *described] if described else [platform.machine(), platform.node()])


def shared_library(text: str, compiler: CCompiler) -> bytes:
    """The shared library of a C text. Raises `NoLibrary` if the compiler fails or takes longer than `LIMIT`."""
    advice = "CC may name another compiler"
    try:
        with private_folder(guarded_folders()[0]) as folder:
            source, result = folder / "native.c", folder / "native.so"
            source.write_text(text, encoding="utf-8")
            command = [*compiler.command, *flags(), "-x", "c", source.name, "-o", result.name, "-lm"]
            code, said = _run(command, folder)
            if code:
                how = f"was ended by signal {-code}" if code < 0 else "failed"
                raise NoLibrary(f"{compiler.name} {how}{': ' if said else ''}{said}", advice)
            return result.read_bytes()
    except subprocess.TimeoutExpired:
        raise NoLibrary(f"{compiler.name} did not end within {LIMIT:g} s", advice) from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the command
        raise NoLibrary(f"{compiler.name} made no library: {printable(str(error))}", advice) from error


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    """The exit code of a command that runs in `folder`, and the beginning of what it says, on one line.

    It says so to a file: a pipe stays open as long as anything that the command started, be it killed or not.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    with Path(folder, "said").open("w+b") as said:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(LIMIT)
        except BaseException:
            _kill(process)
            raise
        said.seek(0)
        lines = said.read(10_000).decode(errors="replace").splitlines()
    beginning = [printable(line.strip())[:_MOST_CHARACTERS] for line in lines if line.strip()][:_MOST_LINES]
    return code, "; ".join(beginning)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process with all that it started."""
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()

"""`doctor`: reports what works on this machine, and what to install for the rest.

No check fails: an error while checking is its result.
"""

import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum, auto
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from rich.table import Table
from rich.text import Text

from maskdsl import __version__
from maskdsl.base.cache import CACHE_VARIABLE, cache_directory, write_whole
from maskdsl.cli.consoles import output
from maskdsl.view import units


class CheckState(StrEnum):
    GOOD = auto()
    ABSENT = auto()  # missing, but most users do not need it
    BAD = auto()


@dataclass(frozen=True)
class _Check:
    name: str
    state: CheckState
    detail: str
    advice: str = ""
    """What to do about the result."""


_OPTIONAL = (
    ("pygls", "lsp", "the language server, `maskdsl lsp`"),
    ("matplotlib", "", "pictures in files"),
    ("transformers", "transformers", "patterns in models of Hugging Face"),
    ("diffusers", "diffusers", "patterns in diffusion models"),
    ("hypothesis", "testing", "strategies to test patterns of your own"),
)
"""Optional packages, the extra that installs each (empty: the package itself), and what it is for."""
_STYLES = {CheckState.GOOD: "green", CheckState.ABSENT: "yellow", CheckState.BAD: "red"}
_SIGNS = {CheckState.GOOD: "ok", CheckState.ABSENT: "none", CheckState.BAD: "bad"}
_COMPILERS = ("c++", "g++", "clang++", "cl")


def doctor(as_json: bool) -> int:
    """Prints all checks. Returns 1 if something that is needed does not work."""
    checks = list(_checks())
    healthy = all(each.state is not CheckState.BAD for each in checks)
    if as_json:
        print(json.dumps({"healthy": healthy, "findings": [asdict(each) for each in checks]}, indent=2))
        return int(not healthy)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for each in checks:
        detail = Text(each.detail)
        if each.advice:
            detail.append(f"\n{each.advice}", style="dim")
        table.add_row(Text(_SIGNS[each.state], _STYLES[each.state]), each.name, detail)
    output().print(table)
    return int(not healthy)


def _checks() -> Iterator[_Check]:
    """All checks, the most important first."""
    yield _Check("maskdsl", CheckState.GOOD, f"{__version__} in {Path(str(files('maskdsl'))).parent}")
    yield _Check("python", CheckState.GOOD, f"{platform.python_version()} at {sys.executable}")
    yield _Check("machine", CheckState.GOOD, f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors")
    torch = _imported("torch")
    yield _library(
        "torch", torch, "computes attention; drawing and measuring do not need it", "pip install torch", CheckState.BAD
    )
    triton = _imported("triton")
    advice = "pip install triton" if sys.platform == "linux" else "it does not exist for this system"
    yield _library("triton", triton, "compiles the kernels of GPUs", advice, CheckState.ABSENT)
    yield _guarded("gpu", lambda: _gpu(torch))
    yield _guarded("compiler", _compiler)
    yield _guarded("cache", _cache)
    for name, extra, purpose in _OPTIONAL:
        yield _optional(name, extra, purpose)


def _guarded(name: str, look: Callable[[], _Check]) -> _Check:
    """The check; an exception of a broken installation or driver becomes its result."""
    try:
        return look()
    except Exception as error:
        return _Check(name, CheckState.BAD, _reason(error))


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}"


def _imported(name: str) -> ModuleType | Exception | None:
    """The module, the error of importing it, or None if it is not installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return None
    try:
        return import_module(name)
    except Exception as error:
        return error


def _library(
    name: str, module: ModuleType | Exception | None, purpose: str, advice: str, without: CheckState
) -> _Check:
    match module:
        case None:
            return _Check(name, without, f"not installed; it {purpose}", advice)
        case Exception():
            return _Check(name, CheckState.BAD, f"installed, but not working: {_reason(module)}", advice)
        case _:
            return _Check(name, CheckState.GOOD, str(getattr(module, "__version__", "of unknown version")))


def _gpu(torch: ModuleType | Exception | None) -> _Check:
    if not isinstance(torch, ModuleType):
        return _Check("gpu", CheckState.ABSENT, "not checked without torch")
    built = (
        f"CUDA {torch.version.cuda}" if torch.version.cuda else f"HIP {torch.version.hip}" if torch.version.hip else ""
    )
    if not torch.cuda.is_available():
        why = f"this torch is built for {built}" if built else "this torch is built for CPUs only"
        on_cpu = "the backend `tiled` computes on the CPU; TRITON_INTERPRET=1 runs the kernels there, slowly"
        return _Check("gpu", CheckState.ABSENT, f"none found; {why}", on_cpu)
    devices = (torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count()))
    named = [f"{each.name}, {units.size(each.total_memory)}, {each.major}.{each.minor}" for each in devices]
    return _Check("gpu", CheckState.GOOD, f"{'; '.join(named)} ({built})")


def _compiler() -> _Check:
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else _COMPILERS
    compiler = next((path for name in wanted if (path := shutil.which(name))), None)
    if compiler is not None:
        return _Check("compiler", CheckState.GOOD, compiler)
    advice = "install one, such as g++; if it is not on the path, set CXX to it"
    return _Check("compiler", CheckState.ABSENT, "no C++ compiler; torch.compile and Triton need one", advice)


def _cache() -> _Check:
    """Checks the cache folder by writing a file: permissions alone do not show whether that works."""
    folder = cache_directory()
    probe = folder / "doctor.probe"
    if not write_whole(probe, b""):
        advice = f"set {CACHE_VARIABLE} to another folder; until then grammars and kernels are rebuilt each time"
        return _Check("cache", CheckState.ABSENT, f"{folder} cannot be written", advice)
    probe.unlink(missing_ok=True)
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return _Check("cache", CheckState.GOOD, f"{folder}, {units.count(len(sizes))} files, {units.size(sum(sizes))}")


def _optional(name: str, extra: str, purpose: str) -> _Check:
    """ResolvedMasks up, not imported."""
    try:
        return _Check(name, CheckState.GOOD, f"{version(name)}, for {purpose}")
    except PackageNotFoundError:
        install = f"pip install 'maskdsl[{extra}]'" if extra else f"pip install {name}"
        return _Check(name, CheckState.ABSENT, f"not installed; it is for {purpose}", install)

"""`doctor`: reports what works on this machine, and what to install for the rest.

No check fails: an error while checking is its result.
"""

import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import StrEnum, auto
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.resources import files
from operator import eq, ge, lt
from pathlib import Path
from types import ModuleType

from rich.table import Table
from rich.text import Text

from maskdsl import __version__
from maskdsl.base.cache import CACHE_VARIABLE, cache_directory, write_whole
from maskdsl.base.records import dataclass
from maskdsl.cli.consoles import output
from maskdsl.view import units


class CheckState(StrEnum):
    GOOD = auto()
    ABSENT = auto()  # missing, but most users do not need it
    UNTESTED = auto()  # works, in a version that nobody has tested
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
    ("matplotlib", "pictures", "pictures of receptive fields, `maskdsl field --out`"),
    ("transformers", "transformers", "patterns in models of Hugging Face"),
    ("diffusers", "diffusers", "patterns in diffusion models"),
    ("vllm", "vllm", "patterns in vLLM's layers"),
    ("hypothesis", "testing", "strategies to test patterns of your own"),
)
"""Optional packages, the extra that installs each, and what it is for."""
_STYLES = {
    CheckState.GOOD: "green",
    CheckState.ABSENT: "yellow",
    CheckState.UNTESTED: "yellow",
    CheckState.BAD: "red",
}
_SIGNS = {CheckState.GOOD: "ok", CheckState.ABSENT: "none", CheckState.UNTESTED: "warn", CheckState.BAD: "bad"}
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
    torch, triton = _imported("torch"), _imported("triton")
    yield _library("pillow", _imported("pillow", "PIL"), "draws PNG files", "pip install pillow", CheckState.BAD)
    advice = _install("torch")
    yield _library("torch", torch, "computes attention; optional for everything else", advice, CheckState.ABSENT)
    advice = _install("triton") if sys.platform == "linux" else "it does not exist for this system"
    yield _library("triton", triton, "compiles kernels for GPUs; optional without one", advice, CheckState.ABSENT)
    yield _guarded("gpu", lambda: _gpu(torch))
    yield _guarded("compiler", _compiler)
    yield _guarded("cache", _cache)
    yield _guarded("native", lambda: _native(torch))
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


def _imported(name: str, module: str | None = None) -> ModuleType | Exception | None:
    """The module of a package, the error of importing it, or None if the package is not installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return None
    try:
        return import_module(module or name)
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
    installed = str(getattr(module, "__version__", "of unknown version"))
    for package in ("torch", "maskdsl"):  # a build of torch asks for one version, so it is asked first
        asked = _asked(package, name)
        if not _is_within(installed, asked):
            detail = f"{installed}, and {package} asks for {name}{asked}"
            return _Check(name, CheckState.UNTESTED, detail, f"pip install '{name}{asked}'")
    return _Check(name, CheckState.GOOD, installed)


def _asked(package: str, name: str) -> str:
    """The versions of `name` that the installed package asks for, such as `>=3.4,<3.10`; empty for any."""
    try:
        needs = requires(package) or []
    except PackageNotFoundError:
        return ""
    matches = (re.match(rf"{name}\s*\(?([<>=!~][^;)]*)", need) for need in needs)
    return next((match[1].replace(" ", "") for match in matches if match), "")


def _is_within(installed: str, asked: str) -> bool:
    """Whether a version fits all of these bounds, of which those other than `>=`, `<` and `==` are not looked at."""
    bounds = re.findall(r"(>=|<|==)([\d.]+)", asked)
    compared = {">=": ge, "<": lt, "==": eq}
    return all(compared[sign](_numbers(installed), _numbers(bound)) for sign, bound in bounds)


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version, without what follows them: (3, 7, 1) of `3.7.1+git`; zeros at the end do not count."""
    numbers = [int(each) for each in re.split(r"[^\d.]", text)[0].split(".") if each]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _install(extra: str) -> str:
    return f"pip install 'maskdsl[{extra}]'"


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


def _native(torch: ModuleType | Exception | None) -> _Check:
    """Checks the kernels for the CPU by compiling them, unless they are in the cache: then calls need not wait."""
    if not isinstance(torch, ModuleType):
        return _Check("native", CheckState.ABSENT, "not checked without torch")
    from maskdsl.runtime.backends.native.library import native_library  # optional dependency: torch

    built = native_library()
    if built.functions is None:
        detail = f"no kernels for the CPU: {built.why_not}"
        return _Check("native", CheckState.ABSENT, detail, f"{built.advice}; until then `tiled` computes")
    where = "read from the cache" if built.is_cached else "compiled now"
    return _Check("native", CheckState.GOOD, f"kernels for the CPU by {built.compiler}, {where}")


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
    """Looked up, not imported."""
    try:
        return _Check(name, CheckState.GOOD, f"{version(name)}, for {purpose}")
    except PackageNotFoundError:
        return _Check(name, CheckState.ABSENT, f"not installed; optional, for {purpose}", _install(extra))

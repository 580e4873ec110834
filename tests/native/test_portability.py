"""The kernels in C on other processors: compiled for them, and run here, in an emulator where this machine is another.

Each result is compared with float64. What the machine cannot compile or run is skipped, with the reason.
"""

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from maskdsl.emit.native_scores import plain_native
from maskdsl.runtime.backends.native.c_compiler import flags
from tests.support.native_cases import Array, NativeCase, drawn_cases
from tests.support.native_forms import FORMS, drawn_forms

ROOT = Path(__file__).parents[2]
CPU_INFO = Path("/proc/cpuinfo")
X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")
ERRORS = {"float32": 2e-6, "bfloat16": 2**-8, "float16": 2**-11}
"""Of results, beside the largest one of each row: of halves, that of one rounding. Gradients are differences, so at
least beside what is subtracted: products of incoming gradients and values."""
IN_HALVES = 8
"""As many errors, where the processor multiplies halves: then probabilities and gradients are rounded to them too."""
OF_FORMS = 8
"""As many errors, of calls whose scores are functions: sums of their terms' gradients are over all keys, or queries."""
FLAGS = [each for each in flags() if not each.startswith(("-march", "-mcpu", "-shared"))]
PROCESSOR = [each for each in flags() if each.startswith(("-march", "-mcpu"))]


def is_native(machines: tuple[str, ...]) -> bool:
    return platform.machine().lower() in machines


def missing(*programs: str) -> str:
    """Why these cannot be used."""
    absent = [each for each in programs if shutil.which(each) is None]
    return f"{' and '.join(absent)} cannot be run" if absent else ""


def lacking(*features: str) -> str:
    """Why programs that use these features of a processor cannot be run."""
    known = CPU_INFO.read_text().split() if CPU_INFO.is_file() else []
    absent = [each for each in features if each not in known]
    return f"this processor has no {', '.join(absent)}" if absent or not is_native(X86) else ""


HERE = "this processor"
EMULATED = ("aarch64-linux-gnu-gcc", "qemu-aarch64")
TARGETS: dict[str, tuple[list[str], list[str], str]] = {
    HERE: (["gcc", *PROCESSOR], [], missing("gcc")),
    "x86-64": (["gcc", "-march=x86-64"], [], lacking() or missing("gcc")),
    "AVX2": (["gcc", "-march=x86-64-v3"], [], lacking("avx2", "fma") or missing("gcc")),
    "AVX-512": (["gcc", "-march=x86-64-v4"], [], lacking("avx512f", "avx512vl") or missing("gcc")),
    "AVX-512 with bfloat16": (["gcc", "-march=cooperlake"], [], lacking("avx512_bf16") or missing("gcc")),
    "GCC 11": (["gcc-11", "-march=native"], [], lacking() or missing("gcc-11")),
    "clang": (["clang", "-march=native"], [], lacking() or missing("clang")),
    "NEON": (["gcc"], [], missing("gcc"))
    if is_native(ARM)
    else (list(EMULATED[:1]), [EMULATED[1], "-L", "/usr/aarch64-linux-gnu"], missing(*EMULATED)),
    "bounds": (
        ["gcc", "-march=native", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover"],
        [],
        missing("gcc"),
    ),
    "races": (["gcc", "-O1", "-fsanitize=thread"], [], missing("gcc")),
}
"""By what is tested: the compiler, what runs what it makes, and why either cannot be used."""


@dataclass(frozen=True)
class Driver:
    """Computes cases, given by their files."""

    command: list[str]
    multiplies_halves: bool
    times: int = 1
    """As many of the errors that calls without a form have."""

    def run(self, paths: Sequence[Path]) -> None:
        ended = subprocess.run([*self.command, *paths], capture_output=True, text=True, timeout=600)
        assert (ended.returncode, ended.stderr) == (0, "")

    def check_all(self, cases: Sequence[NativeCase], folder: Path) -> None:
        """Computes cases by files in a folder, and checks their results."""
        files = [folder / str(number) for number in range(len(cases))]
        where = [case.write(path) for case, path in zip(cases, files, strict=True)]
        self.run(files)
        for case, path, at in zip(cases, files, where, strict=True):
            fault, results = case.read(path, at)
            assert fault == 0
            self.check(case, results)

    def limit(self, case: NativeCase, name: str) -> float:
        if case.kind == "bfloat16" and self.multiplies_halves:
            return IN_HALVES * ERRORS[case.kind]
        return ERRORS["float32" if name == "lse" else case.kind]

    def check(self, case: NativeCase, results: Mapping[str, Array]) -> None:
        expected = case.results()
        assert results.keys() >= {"out"}
        for name, found in results.items():
            wanted = expected[name]
            infinite = np.isinf(wanted)
            assert np.array_equal(np.isinf(found), infinite), (case, name)
            finite = np.where(infinite, 0, wanted)
            error = np.abs(np.where(infinite, 0, found) - finite).max(axis=-1)
            least = case.value_dim**0.5 if name.startswith("grad") else 1
            limit = self.times * self.limit(case, name) * np.maximum(np.abs(finite).max(axis=-1), least)
            assert (error <= limit).all(), (case, name, error.max())


@pytest.fixture(
    scope="module", params=[HERE, *(pytest.param(each, marks=pytest.mark.long) for each in TARGETS if each != HERE)]
)
def target(request: pytest.FixtureRequest) -> str:
    reason = TARGETS[request.param][2]
    if reason:
        # Cross compilers, emulators and processors that a machine need not have; `reason` names the one.
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture(scope="module")
def driver(target: str, tmp_path_factory: pytest.TempPathFactory) -> Driver:
    return compiled(target, tmp_path_factory.mktemp("driver"), plain_native().text)


def compiled(target: str, folder: Path, text: str) -> Driver:
    """The driver with this text of the kernels."""
    compiler, runner, _ = TARGETS[target]
    program = folder / "driver"
    (folder / "native.c").write_text(text)
    command = [*compiler[:1], *FLAGS, *compiler[1:], "-Wno-psabi", f"-I{folder}", str(ROOT / "tests/native/driver.c")]
    ended = subprocess.run([*command, "-o", program, "-lm"], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0 and "warning" not in ended.stderr, ended.stderr
    defined = subprocess.run([*command, "-dM", "-E"], capture_output=True, text=True, check=True, timeout=60)
    return Driver([*runner, str(program)], "#define HAS_PAIRS 1\n" in defined.stdout)


@pytest.mark.parametrize("seed", range(3))
def test_results_are_those_of_float64(seed: int, driver: Driver, tmp_path: Path) -> None:
    cases = drawn_cases(100 * seed, 24)
    driver.check_all(cases, tmp_path)


@pytest.mark.parametrize("spoils", ["v", "q", "scale", "grad_out"])
def test_what_is_not_finite_is_reported(spoils: str, driver: Driver, tmp_path: Path) -> None:
    """By the forward pass or by the backward pass, which also reports log-sum-exps that are too large."""
    drawn = [each for each in drawn_cases(7, 60) if each.wants_gradients and each.mask.any() and each.cap == 0]
    cases = [replace(each, spoils=spoils) for each in drawn]
    assert {each.has_segments for each in cases} == {False, True}
    files = [tmp_path / str(number) for number in range(len(cases))]
    where = [case.write(path) for case, path in zip(cases, files, strict=True)]
    driver.run(files)
    assert [case.read(path, at)[0] for case, path, at in zip(cases, files, where, strict=True)] == [1] * len(cases)


@pytest.mark.parametrize("form", FORMS)
def test_filled_texts(form: str, target: str, tmp_path: Path) -> None:
    """Scores and weights of other forms: their functions have errors of some units in the last place."""
    cases = drawn_forms(form, 300, 12)
    driver = replace(compiled(target, tmp_path, cases[0].text.text), times=OF_FORMS)
    driver.check_all(cases, tmp_path)

"""What is installed: all files of the package, which type checkers find, of a checkout too."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

import maskdsl

ROOT = Path(__file__).parents[1]
PROGRAMS = [
    "\n".join(re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S))
    for page in ("README.md", "docs/using.md")
]
"""What users copy, which has to be typed."""
MISTAKES = """
import torch
from torch import Tensor, nn

import maskdsl

pattern = maskdsl.load("near.attn")["near"]
attention, following = pattern.bind(heads=2).compile(), pattern.compile("tiled", follow=("m", "n"))
q = torch.randn(1, 2, 8, 4)
out: Tensor = attention(q, q, q) + following(q, q, q)
both: tuple[Tensor, Tensor] = attention(q, q, q, return_lse=True)
model = nn.Sequential(attention, following)
name: str = attention.backend + pattern.name

pattern.compile("cuda")  # wrong
attention(q, q)  # wrong
attention(q, q, q, layout="rows")  # wrong
attention(q, q, q, return_lse=True).sum()  # wrong
following.varlen(q, q, q, q).sum()
following.varlen(q, q, q, q, return_lse=True).sum()  # wrong
maskdsl.unknown  # wrong
"""
FOLDERS = ("maskdsl", "grammar", "codegen", "examples", "tests", "docs", "benchmarks", "editors")
HOOKS = ".pre-commit-hooks.yaml"
PLAIN = """
import io
from contextlib import redirect_stderr
from importlib.metadata import distributions
from importlib.util import find_spec

import maskdsl
from maskdsl.cli import main

assert not any(map(find_spec, ("torch", "triton", "typer", "pydantic", "matplotlib")))


def run(line, code=0):
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            main(line.split())
    except SystemExit as ended:
        assert ended.code in (code, None), (line, said.getvalue())
    return said.getvalue()


for line in ("--help", "doctor", "new --list", "new mine", "check mine.attn", "fmt --check mine.attn"):
    run(line)
run("new longformer")
for command in ("check", "stats", "explain", "explain --pair 5 3", "show", "show --json", "order", "view", "field"):
    name, *options = command.split()
    run(" ".join([name, "longformer", *options]))
for line in ("show language/longformer --out map.png", "show vision/swin --out map.pdf", "emit t5 --stage triton"):
    run(line)
for command in ("run", "bench", "verify"):
    assert 'pip install "maskdsl[torch]"' in run(f"{command} longformer", 2)
assert "did you mean `longformer.attn`" in run("show longfromer", 2)
longformer = maskdsl.load(maskdsl.examples()["language/longformer"])["longformer"]
mask = longformer.bind(n=512, size=64)
mask.stats(), mask.tiles(), mask.guarantee(), mask.predict("H100")
try:
    mask.compile()
except ImportError as error:
    assert "maskdsl[torch]" in str(error)
"""
"""What works after `pip install maskdsl` alone."""
MYPY = ("-m", "mypy", "--strict", "--config-file=", "--untyped-calls-exclude=torch")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built, without what was built before."""
    tree = tmp_path_factory.mktemp("checkout")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and (path.name == HOOKS or not path.name.startswith(".")):
            shutil.copy(path, tree)
    return tree


def built(kind: str, tree: Path, folder: Path) -> Path:
    """A wheel, an sdist, or a wheel that is editable. Setuptools has nothing against it."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, check=True, capture_output=True, text=True, timeout=120
    )
    assert not re.search("would be ignored|[Dd]eprecat", ended.stdout + ended.stderr), ended.stderr
    (file,) = folder.iterdir()
    return file


def files(tree: Path) -> set[str]:
    """Of the package, links followed. Of the examples, what is no pattern stays in the repository."""
    walked = os.walk(tree / "maskdsl", followlinks=True)
    paths = [(Path(folder) / name).relative_to(tree) for folder, _, names in walked for name in names]
    return {path.as_posix() for path in paths if "example_files" not in path.parts or path.suffix == ".attn"}


def packed(wheel: Path) -> set[str]:
    return {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_the_wheel_has_every_file(checkout: Path, tmp_path: Path) -> None:
    expected = files(checkout)
    assert {"maskdsl/py.typed", "maskdsl/grammar/std.attn", "maskdsl/codegen/tiled.py"} <= expected
    wheel = built("wheel", checkout, tmp_path)
    assert packed(wheel) == expected
    assert wheel.name.startswith(f"maskdsl-{maskdsl.__version__}-")


@pytest.fixture(scope="module")
def unpacked(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a source distribution."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "sdist").mkdir()
    with tarfile.open(built("sdist", checkout, folder / "sdist")) as file:
        file.extractall(folder, filter="data")
    (tree,) = folder.glob("maskdsl-*")
    return tree


def test_a_source_distribution_has_all_that_tests_it(checkout: Path, unpacked: Path) -> None:
    for name in FOLDERS:
        whole = {path.relative_to(checkout) for path in (checkout / name).rglob("*") if path.is_file()}
        assert not {path for path in whole if not (unpacked / path).exists()}, name
    for path in checkout.iterdir():
        assert path.suffix == ".egg-info" or path.name == "build" or (unpacked / path.name).exists(), path


@pytest.mark.long
def test_a_source_distribution_builds_and_tests_itself(checkout: Path, unpacked: Path, tmp_path: Path) -> None:
    assert packed(built("wheel", unpacked, tmp_path)) == files(checkout)
    tests = ["tests/test_tables.py", "tests/syntax", "tests/cli/test_errors.py", "tests/cli/test_check_formats.py"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *tests], cwd=unpacked, capture_output=True, text=True, timeout=600
    )
    assert ended.returncode == 0, ended.stdout


def installed(environment: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """What pip says of installing this into an environment, with the newest versions that are allowed."""
    pip = [sys.executable, "-m", "pip", "--python", environment / "bin" / "python", "install", "--no-compile"]
    plain = {name: value for name, value in os.environ.items() if name not in ("PIP_CONSTRAINT", "PYTHONPATH")}
    return subprocess.run(
        [str(each) for each in (*pip, "--quiet", *words)], capture_output=True, text=True, timeout=300, env=plain
    )


def test_a_plain_install_works(checkout: Path, tmp_path: Path) -> None:
    """In an environment that has nothing else, away from the repository: what needs no torch, and what says it does."""
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60)
    if installed(environment, "--no-deps", "platformdirs").returncode:
        # An environment that has nothing can only be filled from an index: offline nobody can install a package.
        pytest.skip("there is no package index")
    (tmp_path / "wheel").mkdir()
    ended = installed(environment, built("wheel", checkout, tmp_path / "wheel"))
    assert ended.returncode == 0, ended.stderr
    (tmp_path / "elsewhere").mkdir()
    plain = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    plain |= {"MASKDSL_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    for words in ([environment / "bin" / "maskdsl", "--version"], [environment / "bin" / "python", "-c", PLAIN]):
        ended = subprocess.run(
            list(map(str, words)), cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=300, env=plain
        )
        assert ended.returncode == 0, ended.stderr
    written = {path.name: path.read_bytes() for path in (tmp_path / "elsewhere").iterdir()}
    assert {*written} == {"mine.attn", "longformer.attn", "map.png", "map.pdf", "longformer.html"}
    assert written["map.png"].startswith(b"\x89PNG") and written["map.pdf"].startswith(b"%PDF")
    assert written["longformer.attn"] == (ROOT / "examples/language/longformer.attn").read_bytes()


def test_an_editable_install_is_a_path(checkout: Path, tmp_path: Path) -> None:
    """Which type checkers follow, as they do no hooks of imports."""
    wheel = built("editable", checkout, tmp_path)
    (name,) = packed(wheel)
    assert name.endswith(".pth") and ZipFile(wheel).read(name).decode().strip() == str(checkout)


@pytest.fixture(scope="module", params=["editable", pytest.param("wheel", marks=pytest.mark.long)])
def python(request: pytest.FixtureRequest, checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment in which the package is installed."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    (site,) = folder.glob("lib/python*/site-packages")
    (folder / "built").mkdir()
    ZipFile(built(request.param, checkout, folder / "built")).extractall(site)
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site / "others.pth").write_text("\n".join(others))
    return folder / "bin" / "python"


def checked(folder: Path, *command: object) -> set[tuple[str, int]]:
    """The files and lines that a checker finds wrong, of the programs of pages and of one with mistakes."""
    for number, text in enumerate(PROGRAMS):
        (folder / f"program_{number}.py").write_text(text)
    (folder / "mistakes.py").write_text(MISTAKES)
    names = sorted(each.name for each in folder.glob("*.py"))
    words = [sys.executable, *map(str, command), *names]
    ended = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    found = re.findall(r"(\w+\.py):(\d+):.*?error", ended.stdout)
    assert found, ended.stdout + ended.stderr
    return {(name, int(line)) for name, line in found}


WRONG = {("mistakes.py", n) for n, line in enumerate(MISTAKES.splitlines(), 1) if "# wrong" in line}


@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_programs_of_users_by_pyright(python: Path, tmp_path: Path) -> None:
    assert checked(tmp_path, "-m", "pyright", "--pythonpath", python) == WRONG


@pytest.mark.long
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_programs_of_users_by_mypy(python: Path, tmp_path: Path) -> None:
    options = "--python-executable", python, "--cache-dir", tmp_path / "cache"
    assert checked(tmp_path, *MYPY, *options) == WRONG

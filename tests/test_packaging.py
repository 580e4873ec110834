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
README = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
PROGRAMS = [text for text in README if "transformers" not in text and "diffusers" not in text]
"""Those of the README that use what is typed."""
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
MYPY = ("-m", "mypy", "--strict", "--config-file=", "--untyped-calls-exclude=torch")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built, without what was built before."""
    tree = tmp_path_factory.mktemp("checkout")
    for name in ("maskdsl", "grammar", "codegen"):
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    return tree


def built(kind: str, tree: Path, folder: Path) -> Path:
    """A wheel, an sdist, or a wheel that is editable."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=tree, check=True, capture_output=True, timeout=120)
    (file,) = folder.iterdir()
    return file


def files(tree: Path) -> set[str]:
    """Of the package, links followed."""
    walked = os.walk(tree / "maskdsl", followlinks=True)
    return {(Path(folder) / name).relative_to(tree).as_posix() for folder, _, names in walked for name in names}


def packed(wheel: Path) -> set[str]:
    return {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_the_wheel_has_every_file(checkout: Path, tmp_path: Path) -> None:
    expected = files(checkout)
    assert {"maskdsl/py.typed", "maskdsl/grammar/std.attn", "maskdsl/codegen/tiled.py"} <= expected
    wheel = built("wheel", checkout, tmp_path)
    assert packed(wheel) == expected
    assert wheel.name.startswith(f"maskdsl-{maskdsl.__version__}-")


@pytest.mark.long
def test_a_wheel_of_the_source_distribution_is_the_same(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "sdist").mkdir()
    with tarfile.open(built("sdist", checkout, tmp_path / "sdist")) as file:
        file.extractall(tmp_path, filter="data")
    (tmp_path / "wheel").mkdir()
    (tree,) = tmp_path.glob("maskdsl-*")
    assert packed(built("wheel", tree, tmp_path / "wheel")) == files(checkout)


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
    """The files and lines that a checker finds wrong, of programs of the README and of one with mistakes."""
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

"""The packages that a machine without a package index lacks: downloaded elsewhere, unpacked there.

Wheels are for Python 3.12 on Linux and x86-64. torch and Triton are not among them: they fit the machine's driver.
"""

import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".wheels"
"""Where they are, unless another folder is given. Git ignores it."""
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
TESTING = ("hypothesis", "pytest", "pytest-timeout", "pytest-xdist")


def pack(folder: Path) -> None:
    """Downloads the wheels of what maskdsl and its tests need. Raises `CalledProcessError` where pip fails."""
    options = ["--quiet", "--dest", str(folder), "--only-binary=:all:", "--constraint", str(ROOT / "constraints.txt")]
    target = ["--implementation", "cp", "--python-version", PYTHON]
    target += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *target, *requirements()], check=True)


def requirements() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *TESTING]


def unpack(folder: Path, target: Path) -> list[str]:
    """Unpacks the wheels of packages that are not installed here, and gives their names."""
    missing = [wheel for wheel in sorted(folder.glob("*.whl")) if not is_installed(wheel.name.split("-")[0])]
    for wheel in missing:
        with ZipFile(wheel) as archive:
            archive.extractall(target)
    return [wheel.name.split("-")[0] for wheel in missing]


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True

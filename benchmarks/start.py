"""How long commands take to start, and how much a plain install adds: `python benchmarks/start.py` writes a record.

maskdsl is installed into an environment of its own, with the newest versions that it allows and without torch. Times
are those of the processor, medians of 7 runs, over that of `python -c "import numpy"`, called in turn with them:
machines differ less in that than in seconds. Of all examples, the two are measured that take each of `show`, `stats`
and `check` longest. `python benchmarks/start.py PYTHON` measures the installation of that Python.
"""

import json
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import PathDistribution, requires
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "benchmarks" / "results" / "start.json"
ROUNDS = 7
SLOWEST = 2
NUMPY = ("-c", "import numpy")
EXAMPLE = "examples/language/longformer.attn"
COMMANDS = ("show", "stats", "check")
RANKED = f"""
import io, json, os, time
from contextlib import redirect_stderr, redirect_stdout
import maskdsl
from maskdsl.cli import main

def seconds(words):
    began = time.process_time()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        try:
            main(words)
        except SystemExit as ended:
            if ended.code:
                return 0.0  # without defaults
    return time.process_time() - began

taken = {{}}
for path in maskdsl.examples().values():
    relative = os.path.join("examples", path.parent.name, path.name)
    for command in {COMMANDS}:
        for name in [[]] if command == "check" else [[each] for each in maskdsl.load(path).everything]:
            taken.setdefault(command, []).append((seconds([command, relative, *name]), [relative, *name]))
last = {{command: [run for _, run in sorted(each)[-{SLOWEST}:]] for command, each in taken.items()}}
print(json.dumps(last))
"""
"""For each command, the words of the slowest runs, once all that is imported has been."""
BESIDE = {"pip", "setuptools", "torch", "mpmath", "markupsafe"}
"""What is there before, beside what torch requires."""


def environment(folder: Path) -> Path:
    """The Python of an environment with a plain install."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    return python


def megabytes(python: Path) -> float:
    """What a plain install adds where torch is installed: the bytes of its files, and those compiled from them."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    there = {re.split(r"[^\w-]", need)[0].lower() for need in requires("torch") or ()} | BESIDE
    total = 0
    for info in site.glob("*.dist-info"):
        distribution = PathDistribution(info)
        if distribution.metadata["Name"].lower() not in there:
            files = (Path(str(distribution.locate_file(each))) for each in distribution.files or ())
            total += sum(each.stat().st_size for each in files if each.exists())
    return total / 1e6


def seconds(python: Path, words: tuple[str, ...]) -> float:
    """The processor time of a process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([python, *words], cwd=ROOT, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ratios(python: Path, runs: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """The processor times of these words over that of importing NumPy."""
    taken: dict[str, list[float]] = {name: [] for name in ["numpy", *runs]}
    for _ in range(ROUNDS):
        for name, words in {"numpy": NUMPY, **runs}.items():
            taken[name].append(seconds(python, words))
    return {name: round(median(taken[name]) / median(taken["numpy"]), 2) for name in runs}


def program(*words: str) -> tuple[str, ...]:
    """The command line as an installed one is: `-P` leaves out the folder it is called in."""
    return ("-P", "-m", "maskdsl", *words)


def slowest(python: Path) -> dict[str, dict[str, float]]:
    """For each command, the examples that take longest."""
    ended = subprocess.run([python, "-P", "-c", RANKED], cwd=ROOT, check=True, capture_output=True, text=True)
    ranked: dict[str, list[list[str]]] = json.loads(ended.stdout)
    return {
        command: ratios(
            python, {" ".join([Path(path).stem, *name]): program(command, path, *name) for path, *name in runs}
        )
        for command, runs in ranked.items()
    }


def main() -> None:
    with TemporaryDirectory() as folder:
        python = Path(sys.argv[1]) if len(sys.argv) > 1 else environment(Path(folder))
        listed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
        seconds(python, program("show", EXAMPLE))  # fills the cache
        commands = {command: program(command, EXAMPLE) for command in COMMANDS}
        record = {
            "python": platform.python_version(),
            "packages": [line for line in listed.split() if "==" in line],
            "megabytes beside torch": round(megabytes(python), 1),
            "over import numpy": ratios(python, {"--version": program("--version"), **commands}),
            "slowest of all examples": slowest(python),
        }
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    print(RECORD.read_text())


if __name__ == "__main__":
    main()

"""Runs tests on kernels in C that are compiled with sanitizers: `python -m tests.native.sanitized [NODE...]`.

Before, texts with faults put in have to end in a sanitizer's report: what is loaded has them. Needs gcc.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from maskdsl.emit.skeleton import read_c

ROOT = Path(__file__).parents[2]
TESTS = tuple(
    f"tests/native/test_{name}.py"
    for name in ("kernel", "partial_calls", "chosen_rows", "threads", "one_sided", "sinks", "scores")
)
CHOSEN = "not test_scores or tables or gates or alone"
"""Of the texts with scores, which take long to compile: terms of pairs, of queries and keys, and no softmax."""
OPTIONS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
"""Behind those of the product, which they overrule."""
FAULTS = {
    "AddressSanitizer: heap-buffer-overflow": (
        "return count < 0 ? 0 : count > LANES ? LANES : (int)count;",
        "return count <= 0 ? 0 : LANES;",
    ),
    "runtime error: shift exponent": ("(uint16_t)((1 << held) - 1)", "(uint16_t)((1 << (held + 40)) - 1)"),
}
"""What is reported of a fault: the text that stands there once, and what replaces it."""
CALL = """
import sys, torch, maskdsl
from maskdsl.emit import native_scores
from maskdsl.runtime.backends.native import library
old, new = sys.argv[1:]
if old:
    read = native_scores.read_c
    native_scores.read_c = lambda name: read(name).replace(old, new)
mask = maskdsl.parse("pattern p(n) { space t[n] attend causal }")["p"].bind(n=17)
assert library.library() is not None, library.native_library().why_not
q = torch.randn(1, 1, 17, 16)
torch.testing.assert_close(mask.compile("native")(q, q, q), mask.compile("reference")(q, q, q))
"""


def environment(folder: Path) -> dict[str, str]:
    """In which the product compiles with sanitizers, and has their runtime."""
    compiler = folder / "cc"
    compiler.write_text(f'#!/bin/sh\nexec gcc "$@" {OPTIONS}\n')
    compiler.chmod(0o700)
    runtime = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    return {
        **os.environ,
        "CC": str(compiler),
        "LD_PRELOAD": runtime.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "MASKDSL_CACHE_DIR": str(folder / "cache"),
    }


def called(env: dict[str, str], old: str, new: str) -> subprocess.CompletedProcess[str]:
    """A call of the product whose kernels have another text."""
    return subprocess.run([sys.executable, "-c", CALL, old, new], cwd=ROOT, env=env, capture_output=True, text=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        env = environment(Path(folder))
        for report, (old, new) in FAULTS.items():
            assert read_c("native").count(old) == 1, old
            ended = called(env, old, new)
            if ended.returncode == 0 or report not in ended.stderr:
                raise SystemExit(f"a fault was not reported as `{report}`:\n{ended.stderr[-3000:]}")
        ended = called(env, "", "")
        if ended.returncode:
            raise SystemExit(ended.stderr)
        print("the sanitizers report faults that are put in, and nothing else; now the tests", flush=True)
        tests = sys.argv[1:] or [*TESTS, "-k", CHOSEN]
        sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-q", "-rs", *tests], cwd=ROOT, env=env))


if __name__ == "__main__":
    main()

"""Without torch: everything up to generated code works, and what computes names the extra that installs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLS = {
    "mask.compile()": "mask.compile()",
    "pattern.compile()": "pattern.compile()",
    "stack.compile()": "stack.compile()",
    "compile(file, name)": "maskdsl.compile(file, 'longformer')",
    "Attention": "maskdsl.Attention",
    "packed_attention": "maskdsl.packed_attention",
    "RoutingState": "maskdsl.RoutingState",
    "verify": "maskdsl.verify(pattern)",
    "from_mask_mod": "maskdsl.from_mask_mod(lambda b, h, q, k: q >= k, 8)",
    "maskdsl.nn": "import_module('maskdsl.nn')",
    "maskdsl.integrations": "import_module('maskdsl.integrations')",
    "maskdsl.integrations.transformers": "import_module('maskdsl.integrations.transformers')",
    "maskdsl.integrations.diffusers": "import_module('maskdsl.integrations.diffusers')",
    "maskdsl.integrations.vllm": "import_module('maskdsl.integrations.vllm')",
    **{command: f"command('{command}', file)" for command in ("run", "bench", "verify --cases 1")},
}
"""What needs torch, by what it is called in."""
WORKS = [
    *("check", "fmt --check", "show", "show --json", "stats", "stats --gpu all", "explain", "explain --pair 5 3"),
    *("order", "field", "emit", "emit --stage tiled", "view --out /dev/null", "show --out {}/a.png"),
]
PROGRAM = """
import io, json, sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module

sys.modules["torch"] = sys.modules["triton"] = None  # as if they were not installed
import maskdsl
from maskdsl.cli import main

file, calls, commands = sys.argv[1], *map(json.loads, sys.argv[2:])


def command(words, file):
    name, *options = words.split()
    said = io.StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            main([name, file, *options])
    except SystemExit as ended:
        if ended.code:
            raise ImportError(said.getvalue())


def result(code):
    try:
        eval(code)
    except ImportError as error:
        return str(error)


pattern = maskdsl.load(file)["longformer"]
mask = pattern.bind(n=256, size=32, heads=2)
mask.tiles(), mask.stats(), mask.dense(), mask.predict("H100"), mask.guarantee()
maskdsl.from_dense(mask.dense())
stack = maskdsl.parse("pattern p(n = 8) { space t[n] attend causal } stack s() = 2 * p()").stack("s").bind()
found = {code: result(code) for code in calls}, {words: result(f"command({words!r}, file)") for words in commands}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("drawn"))
    works = [words.format(folder) for words in WORKS]
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM,
            "examples/language/longformer.attn",
            *map(json.dumps, ([*CALLS.values()], works)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("call", CALLS)
def test_what_computes_names_the_extra(found, call):
    said = found[0][CALLS[call]]
    assert said and "error[E610]" in said and 'help: pip install "maskdsl[torch]"' in said


def test_everything_else_works(found):
    assert found[1] and {words: said for words, said in found[1].items() if said is not None} == {}

"""Broken programs and what is said about them: `name.attn` and its rendering, `name.err`."""

import re
from pathlib import Path

import pytest

import maskdsl
from maskdsl.base.diagnostics import AttnError

HERE = Path(__file__).parent
PROGRAMS = sorted(HERE.glob("*.attn"))


def rendering(path: Path) -> str:
    with pytest.raises(AttnError) as raised:
        module = maskdsl.parse(path.read_text(), name=path.name)
        for name in module.stacks or module:
            module.everything[name].bind(heads=2)
    return str(raised.value) + "\n"


@pytest.mark.parametrize("path", PROGRAMS, ids=[path.stem for path in PROGRAMS])
def test_error(path: Path, request: pytest.FixtureRequest) -> None:
    golden = path.with_suffix(".err")
    text = rendering(path)
    if request.config.getoption("--update-golden"):
        golden.write_text(text)
    assert golden.exists(), f"{golden.name} is missing: run `make golden`"
    assert text == golden.read_text()


def test_there_is_nothing_else() -> None:
    assert {path.stem for path in HERE.glob("*.err")} == {path.stem for path in PROGRAMS}
    assert len(PROGRAMS) >= 60


def test_every_rendering_names_the_place() -> None:
    for path in PROGRAMS:
        text = path.with_suffix(".err").read_text()
        assert re.search(r"^error\[E\d+\]: ", text), path.stem
        assert re.search(r"--> [\w.]+:\d+:\d+", text), path.stem
        assert "^" in text, path.stem

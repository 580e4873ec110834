"""What `make test-long` writes of the files of tests that ran."""

import json
from pathlib import Path
from types import SimpleNamespace

from tests.support.records import record


def report(name, seconds=1.0):
    return SimpleNamespace(nodeid=name, duration=seconds)


def test_files_that_ran_take_the_place_of_what_is_recorded_of_them(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    record(
        {"passed": [report("tests/a.py::x"), report("tests/b.py::y")], "failed": [report("tests/a.py::z[1]", 0.5)]},
        file,
    )
    first = json.loads(file.read_text())
    assert first["tests/a.py"] | {"commit": ""} == {
        "commit": "",
        "seconds": 1.5,
        "passed": 1,
        "failed": 1,
        "not passed": ["tests/a.py::z[1]"],
    }
    record({"passed": [report("tests/a.py::x"), report("tests/a.py::z[1]")], "warnings": [report("")]}, file)
    second = json.loads(file.read_text())
    assert second["tests/a.py"]["passed"] == 2 and not second["tests/a.py"]["not passed"]
    assert second["tests/b.py"] == first["tests/b.py"]

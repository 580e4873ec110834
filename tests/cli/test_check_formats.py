"""`check` and `fmt` of folders, the forms in which `check` prints what it finds, and the hooks for pre-commit."""

import json
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from tests.cli.conftest import LOCAL

BROKEN = LOCAL.replace("window(size)", "windw(size)")
IDLE = LOCAL.replace("window(size)", "window(size)\n    attend window(3) and window(size)")
HOOKS = Path(__file__).parents[2] / ".pre-commit-hooks.yaml"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files in folders, hidden ones and others among them; the current folder."""
    texts = {
        "b.attn": LOCAL,
        "a/broken, 100%.attn": BROKEN,
        "a/z/idle.attn": IDLE,
        ".hidden/c.attn": BROKEN,
        "a/.d.attn": BROKEN,
        "a/note.txt": "no pattern",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folders_are_searched(maskdsl, folder):
    ended = maskdsl("check", ".")
    assert ended.code == 1
    assert ended.out.splitlines() == [
        "a/z/idle.attn: ok, 1 pattern, 1 warning",
        "b.attn: ok, 1 pattern",
        "1 error, 1 warning in 3 files",
    ]
    assert ended.err.count("error[E206]") == 1 and "--> a/broken, 100%.attn:3:12" in ended.err
    assert (
        maskdsl("check", "a/z", "b.attn", "a/z/idle.attn", "--strict").out.splitlines()[-1]
        == "0 errors, 1 warning in 2 files"
    )
    assert maskdsl("check", "b.attn").out == "b.attn: ok, 1 pattern\n"


def test_a_folder_without_patterns(maskdsl, folder):
    (folder / "empty").mkdir()
    for command in ("check", "fmt"):
        ended = maskdsl(command, "empty", "b.attn")
        assert ended.code == 2 and "error[E571]: there is no .attn file in the folder `empty`" in ended.err


def test_folders_are_formatted(maskdsl, folder):
    (folder / "b.attn").write_text("pattern local(n=64){space tokens[n] attend causal}")
    ended = maskdsl("fmt", "--check", ".")
    assert (ended.code, ended.out) == (1, "would change b.attn\n1 of 3 files would change\n")
    assert maskdsl("fmt", ".").out == "changed b.attn\n1 of 3 files changed\n"
    assert maskdsl("fmt", ".").out == "0 of 3 files changed\n"


def test_json_has_ends_and_help(maskdsl, folder):
    broken, idle, _ = json.loads(maskdsl("check", ".", "--format", "json").out)
    assert json.loads(maskdsl("check", ".", "--json").out)[0] == broken
    ((error,), (warning,)) = broken["errors"], idle["warnings"]
    ends = ("line", "column", "end_line", "end_column")
    assert [error[each] for each in ends] == [3, 12, 3, 17]
    assert [warning[each] for each in ends] == [4, 5, 4, 38] and warning["help"].startswith("leave it out")


def test_github_annotates_lines(maskdsl, folder):
    ended = maskdsl("check", ".", "--format", "github")
    assert ended.code == 1 and ended.err == ""
    error, warning = ended.out.splitlines()
    assert error == (
        "::error file=a/broken%2C 100%25.attn,line=3,col=12,endColumn=16,endLine=3,title=E206::"
        "there is no function or macro `windw`%0Adid you mean `window`?"
    )
    assert warning.startswith("::warning file=a/z/idle.attn,line=4,col=5,")


def test_sarif_is_what_its_schema_requires(maskdsl, folder):
    """The required properties of SARIF 2.1.0, their kinds, and the references between them."""
    absolute = folder / "b.attn"
    absolute.write_text("# \N{MATHEMATICAL BOLD CAPITAL A}\npattern p(n = 4) {\n    space tokens[n]\n    attend é\n}\n")
    ended = maskdsl("check", "a", absolute, "--format", "sarif")
    log = json.loads(ended.out)
    assert ended.code == 1 and log["version"] == "2.1.0" and log["$schema"].endswith("sarif-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "maskdsl" and run["columnKind"] == "unicodeCodePoints"
    assert len({each["id"] for each in driver["rules"]}) == len(driver["rules"])
    files = []
    for result in run["results"]:
        assert result["level"] in ("error", "warning") and result["message"]["text"]
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        (location,) = result["locations"]
        physical = location["physicalLocation"]
        files.append(unquote(urlparse(physical["artifactLocation"]["uri"]).path))
        region = physical["region"]
        assert all(type(value) is int and value >= 1 for value in region.values())
        begin, end = ((region[f"{each}Line"], region[f"{each}Column"]) for each in ("start", "end"))
        assert begin < end
    assert files[:2] == ["a/broken, 100%.attn", "a/z/idle.attn"] and set(files[2:]) == {str(absolute)}


def test_a_file_that_is_not_there_has_no_region(maskdsl, folder):
    (run,) = json.loads(maskdsl("check", "nowhere.attn", "--format", "sarif").out)["runs"]
    (result,) = run["results"]
    assert result["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "nowhere.attn"}}}]
    assert maskdsl("check", "nowhere.attn", "--format", "github").out.startswith(
        "::error file=nowhere.attn,title=E120::"
    )


@pytest.mark.parametrize("hook", HOOKS.read_text().split("\n\n"))
def test_hooks_of_pre_commit_run(maskdsl, folder, hook):
    values = dict(re.findall(r"^[- ] (\w+): (.*)$", hook, re.M))
    assert values["id"] == values["entry"].replace(" ", "-") and values["language"] == "python"
    assert re.search(values["files"], "some/file.attn") and not re.search(values["files"], "some/file.py")
    program, *words = values["entry"].split()
    assert program == "maskdsl" and maskdsl(*words, "b.attn").code == 0

"""`doctor`: what it finds on this machine, and on others that lack things."""

import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from maskdsl.cli.commands import doctor
from maskdsl.cli.commands.doctor import CheckState
from maskdsl.emit.native_scores import NativeText
from maskdsl.runtime.backends.native import library
from maskdsl.runtime.backends.native.library import NativeLibrary

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

NATIVE_LIBRARY = library.native_library


@pytest.fixture(autouse=True)
def native(monkeypatch):
    """As if it were compiled: what these tests look at should neither wait for that nor keep it."""
    monkeypatch.setattr(library, "native_library", lambda: NativeLibrary(None, "cc", True, "not tried", "try it"))


def found(maskdsl):
    ended = maskdsl("doctor", "--json")
    said = json.loads(ended.out)
    assert ended.code == (0 if said["healthy"] else 1) and ended.err == ""
    return {each["name"]: each for each in said["findings"]}


def without(monkeypatch, *names):
    def look(name):
        if name in names:
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor, "version", look)


def test_this_machine(maskdsl):
    import torch

    said = found(maskdsl)
    assert said["torch"]["state"] == "good" and said["torch"]["detail"] == torch.__version__
    assert (said["gpu"]["state"] == "good") == torch.cuda.is_available()
    ended = maskdsl("doctor", columns=120)
    assert all(name in ended.out for name in said)


def test_what_is_not_installed(maskdsl, monkeypatch):
    without(monkeypatch, "torch", "pygls", "matplotlib")
    said = found(maskdsl)
    assert said["torch"]["state"] == "absent" and said["torch"]["advice"] == "pip install 'maskdsl[torch]'"
    assert said["gpu"]["state"] == "absent"
    assert (said["pygls"]["state"], said["pygls"]["advice"]) == ("absent", "pip install 'maskdsl[lsp]'")
    assert said["matplotlib"]["advice"] == "pip install 'maskdsl[pictures]'"
    assert "optional" in said["torch"]["detail"] and "optional" in said["matplotlib"]["detail"]


def test_every_extra_is_looked_for(maskdsl, monkeypatch):
    """In the words of the page on installing, whose table has all of them."""
    packages = {re.split(r"[^\w-]", need)[0].lower() for needs in EXTRAS.values() for need in needs}
    without(monkeypatch, *packages)
    advised = set(re.findall(r"'maskdsl\[(\w+)\]'", " ".join(each["advice"] for each in found(maskdsl).values())))
    table = (ROOT / "docs/install.md").read_text().partition("## Extras")[2].partition("\n## ")[0]
    rows = " ".join(re.findall(r"^\| (`.*?) \|", table, re.M))
    assert advised == {*re.findall(r"`(\w+)`", rows)} == EXTRAS.keys() - {"dev", "docs"}


def test_what_pictures_need(maskdsl, monkeypatch):
    assert found(maskdsl)["pillow"]["state"] == "good"
    without(monkeypatch, "pillow")
    said = found(maskdsl)["pillow"]
    assert said["state"] == "bad" and "PNG" in said["detail"] and said["advice"] == "pip install pillow"


CUDA = ["filelock", 'triton==3.7.1; platform_system == "Linux"', "pytorch-triton (==1) ; extra == 'x'"]
OURS = ["triton<3.10,>=3.4; sys_platform == 'linux' and extra == 'triton'", "torch>=2.8; extra == 'torch'"]


@pytest.mark.parametrize(
    ("needs", "name", "installed", "said"),
    [
        ({"torch": CUDA, "maskdsl": OURS}, "triton", "3.7.1+git12", None),
        ({"torch": CUDA, "maskdsl": OURS}, "triton", "3.9.0", "torch asks for triton==3.7.1"),
        ({"torch": [], "maskdsl": OURS}, "triton", "3.9.0", None),
        ({"torch": [], "maskdsl": OURS}, "triton", "3.10.0", "maskdsl asks for triton<3.10,>=3.4"),
        ({"torch": [], "maskdsl": OURS}, "triton", "3.3.1", "maskdsl asks for triton<3.10,>=3.4"),
        ({"torch": [], "maskdsl": OURS}, "torch", "2.7.1+cpu", "maskdsl asks for torch>=2.8"),
        ({"torch": CUDA, "maskdsl": OURS}, "torch", "2.8.0", None),
        ({"torch": None, "maskdsl": None}, "triton", "1.0", None),
    ],
)
def test_versions_that_were_not_tested(maskdsl, monkeypatch, needs, name, installed, said):
    monkeypatch.setattr(doctor, "requires", needs.get)
    monkeypatch.setattr(__import__(name), "__version__", installed)
    check = found(maskdsl)[name]
    assert check["state"] == ("good" if said is None else "untested")
    assert said is None or (check["detail"] == f"{installed}, and {said}" and "pip install" in check["advice"])


@pytest.mark.parametrize("error", [OSError("libfoo.so: cannot open\nmore"), ImportError(), RuntimeError("driver")])
def test_what_is_broken(maskdsl, monkeypatch, error):
    def broken(name):
        raise error

    monkeypatch.setattr(doctor, "import_module", broken)
    said = found(maskdsl)
    assert said["torch"]["state"] == "bad" and type(error).__name__ in said["torch"]["detail"]
    assert "\n" not in said["torch"]["detail"]


def test_a_gpu_that_fails_when_looked_at(maskdsl, monkeypatch):
    import torch

    def fails():
        raise RuntimeError("CUDA driver initialization failed")

    monkeypatch.setattr(torch.cuda, "is_available", fails)
    said = found(maskdsl)
    assert said["gpu"]["state"] == CheckState.BAD and "driver initialization" in said["gpu"]["detail"]


def test_the_cache(maskdsl, monkeypatch, tmp_path):
    monkeypatch.setenv("MASKDSL_CACHE_DIR", str(tmp_path / "new"))
    assert found(maskdsl)["cache"]["detail"] == f"{tmp_path / 'new'}, 0 files, 0 B"
    (tmp_path / "new" / "some.tables").write_bytes(b"x" * 2048)
    assert "1 files, 2 KiB" in found(maskdsl)["cache"]["detail"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MASKDSL_CACHE_DIR", str(tmp_path / "file" / "below"))
    said = found(maskdsl)["cache"]
    assert said["state"] == "absent" and "MASKDSL_CACHE_DIR" in said["advice"]


def test_kernels_for_the_cpu(maskdsl, monkeypatch, tmp_path):
    """Compiled, then read from the cache, in processes of their own."""
    monkeypatch.setenv("MASKDSL_CACHE_DIR", str(tmp_path))
    text = NativeText("int maskdsl_native_version(void) { return 1; }\n")
    monkeypatch.setattr(library, "plain_native", lambda: text)
    for how in ("compiled now", "read from the cache"):
        monkeypatch.setattr(library, "native_library", NATIVE_LIBRARY.__wrapped__)
        said, built = found(maskdsl)["native"], NATIVE_LIBRARY.__wrapped__()
        if built.functions is None:
            assert said["state"] == "absent" and built.why_not in said["detail"]
        else:
            assert (said["state"], said["detail"]) == ("good", f"kernels for the CPU by {built.compiler}, {how}")


def test_no_kernels_for_the_cpu(maskdsl, monkeypatch):
    monkeypatch.setattr(library, "native_library", lambda: NativeLibrary(None, "", False, "no gcc", "install gcc"))
    said = found(maskdsl)["native"]
    assert (said["state"], said["detail"]) == ("absent", "no kernels for the CPU: no gcc")
    assert said["advice"] == "install gcc; until then `tiled` computes"
    without(monkeypatch, "torch")
    said = found(maskdsl)["native"]
    assert (said["state"], said["detail"]) == ("absent", "not checked without torch")


def test_no_compiler(maskdsl, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    assert found(maskdsl)["compiler"]["state"] == "absent"

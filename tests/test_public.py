"""What `docs/python.md` documents is what there is: every public name, and no other."""

import inspect
import json
import re
from dataclasses import fields, is_dataclass
from importlib import import_module

import pytest
import torch

import maskdsl
from tests.support.documented import DOCUMENTED, ROOT

OF_TORCH = {*dir(torch.nn.Module), "training"} - {"forward"}


def at(path: str) -> object:
    home, _, name = path.rpartition(".")
    return getattr(import_module(home), name)


def public_names(kind: type) -> set[str]:
    """Those that it has of the package's: methods, properties and fields."""
    names = {each.name for each in fields(kind)} if is_dataclass(kind) else set()
    for each in kind.__mro__:
        if each.__module__.startswith("maskdsl."):
            names |= {*vars(each), *inspect.get_annotations(each)}
    names -= OF_TORCH if issubclass(kind, torch.nn.Module) else set()
    return {name for name in names if not name.startswith("_")}


CLASSES = [path for path in DOCUMENTED if inspect.isclass(at(path))]


@pytest.mark.parametrize("path", CLASSES)
def test_public_names_of_classes_are_documented(path: str) -> None:
    kind = at(path)
    assert isinstance(kind, type) and kind.__doc__
    assert {*DOCUMENTED[path]} - made_by_calls(path) - {"__call__"} == public_names(kind)


def made_by_calls(path: str) -> set[str]:
    """Attributes that objects have, and their classes have not."""
    return {"lengths"} if path.endswith(".RoutingState") else set()


def test_attributes_of_what_computes_are_documented() -> None:
    pattern = maskdsl.parse("pattern p(n = 8) { space t[n] attend causal }")["p"]
    fixed = pattern.bind().compile()
    for each in (fixed, pattern.compile(), fixed.routing_state()):
        path = f"{type(each).__module__}.{type(each).__name__}"
        public = {name for name in vars(each) if not name.startswith("_")}
        assert public - OF_TORCH <= {*DOCUMENTED[path]}


MODULES = [
    *("maskdsl", "maskdsl.nn", "maskdsl.inputs", "maskdsl.api.verify", "maskdsl.testing"),
    *("maskdsl.integrations", "maskdsl.integrations.transformers", "maskdsl.integrations.diffusers"),
    "maskdsl.integrations.vllm",
]
"""What is public; see "What is stable" on the page."""


@pytest.mark.parametrize("name", MODULES)
def test_every_exported_name_has_its_entry(name: str) -> None:
    module = import_module(name)
    for each in {*module.__all__} - {"__version__"}:
        assert getattr(module, each) in [at(path) for path in DOCUMENTED if path.rpartition(".")[2] == each]


def test_every_entry_is_exported_or_given_by_what_is() -> None:
    exported = {each for name in MODULES for each in import_module(name).__all__}
    given = {"Figures", "BestOrder", "FlexArguments", "Explanation", "LineReason", "Reason"}
    assert {path.rpartition(".")[2] for path in DOCUMENTED} - exported == given


def test_exported_names_are_those_that_type_checkers_see() -> None:
    text = (ROOT / "maskdsl" / "__init__.py").read_text()
    seen = {name: home for home, name in re.findall(r"^    from ([\w.]+) import (\w+) as \2$", text, re.M)}
    assert seen == {**maskdsl.HOMES, "inputs": "maskdsl"}
    assert maskdsl.inputs is import_module("maskdsl.inputs")
    assert set(maskdsl.__all__) == {"__version__", *maskdsl.HOMES} == set(dir(maskdsl)) - {"inputs"}


def test_the_version_is_one() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == maskdsl.__version__
    editors = ROOT / "editors"
    assert json.loads((editors / "vscode" / "package.json").read_text())["version"] == maskdsl.__version__
    assert set(re.findall(r"maskdsl-([\d.]+)\.vsix", (editors / "README.md").read_text())) == {maskdsl.__version__}

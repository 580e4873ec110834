"""Families of attention modules, one after the other: a module of the library against a pattern."""

import pytest

pytest.importorskip("transformers")
pytest.importorskip("diffusers")
from tests.zoo import diffusion, interface, positional, rest, text, timm_vision, vision
from tests.zoo.families import compare

MODULES = (interface, text, positional, rest, vision, timm_vision, diffusion)
FAMILIES = {name: family for module in MODULES for name, family in module.FAMILIES.items()}
FEW = {
    "gpt_oss",
    "llama4",
    "gemma2",
    "t5",
    "deberta_v2",
    "bloom",
    "longformer",
    "swin",
    "sam",
    "hiera",
    "big_bird",
    "diffusers_chroma",
    "deepseek_v32",
}
"""One of each kind, which are no campaign."""


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[pytest.mark.long] * (each not in FEW)) for each in FAMILIES]
)
def test_family(name: str) -> None:
    compared = [*FAMILIES[name]()]
    assert compared
    for each in compared:
        compare(each)


def test_no_family_is_there_twice() -> None:
    assert len(FAMILIES) == sum(len(each.FAMILIES) for each in MODULES) and FAMILIES.keys() > FEW

"""Every example at the largest setting of its paper binds and has exact tiles in half a second.

On an idle machine; here twice that of processor time is allowed, because others' work slows caches down as well.
"""

from dataclasses import replace
from pathlib import Path
from time import process_time

import pytest

import maskdsl
from benchmarks.settings import MILLION, SETTINGS
from maskdsl.api import Pattern
from maskdsl.ir.facts.route_candidates import most, selects
from maskdsl.ir.meaning.inputs import relation_inputs
from maskdsl.ir.meaning.synthetic_inputs import synthetic_inputs

EXAMPLES = Path(__file__).parents[2] / "examples"
HEADS = 8
SECONDS = 1.0


def patterns():
    """All of them by name; those without a setting have their defaults."""
    for file in sorted(EXAMPLES.rglob("*.attn")):
        module = maskdsl.load(file)
        for name in module:
            if isinstance(module[name], Pattern):
                yield f"{file.parent.name}/{file.stem}: {name}", module[name]


PATTERNS = dict(patterns())


def test_settings_are_of_examples():
    assert not SETTINGS.keys() - PATTERNS.keys()


def bound(name, parameters):
    """With all candidates where pairs are found in queries and keys, of which there are none."""
    mask = PATTERNS[name].bind(heads=HEADS, **parameters)
    return replace(mask, ir=most(mask.ir)) if selects(mask.ir) else mask


@pytest.mark.parametrize("name", PATTERNS)
def test_exact_tiles_at_the_largest_setting(name):
    parameters = SETTINGS.get(name, {})
    mask = bound(name, parameters)
    needed = relation_inputs(mask.ir)
    read = tuple(each for each in mask.ir.inputs if each.name in needed)
    inputs = synthetic_inputs(replace(mask.ir, inputs=read), 0, 1)
    if parameters:
        assert 1 << 15 < max(mask.query_length, mask.key_length) <= 1 << 19
    times = []
    while not times or (min(times) > SECONDS and len(times) < 3):
        began = process_time()
        bound(name, parameters).tiles((128, 128), **inputs)
        times.append(process_time() - began)
    assert min(times) < SECONDS


@pytest.mark.long
@pytest.mark.parametrize("name", MILLION)
def test_exact_tiles_of_a_million_tokens(name):
    """In two seconds on an idle machine."""
    mask = bound(name, MILLION[name])
    assert max(mask.query_length, mask.key_length) > 1_000_000
    began = process_time()
    mask.tiles((128, 128))
    assert process_time() - began < 4

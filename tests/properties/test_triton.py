"""Random patterns through the generated Triton kernels, in the interpreter, which needs a process of its own."""

import json

import pytest

from tests.support.drawn import examples
from tests.support.interpreting import last_line


def interpret(*arguments: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(last_line("properties.interpreted", *arguments))
    return found


@pytest.mark.hypothesis
def test_kernels_agree_with_the_meaning():
    count = examples(12)
    found = interpret(count, 1)
    assert not found["failure"]
    assert found["ran"] >= count


def test_rounding_toward_zero_is_noticed():
    assert "triton, " in str(interpret(60, 1, "break")["failure"])

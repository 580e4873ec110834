"""Without a library, what to install; and nothing is imported before it is asked for."""

import sys
from importlib import import_module

import pytest

from maskdsl import AttnError


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("maskdsl.integrations.transformers", "transformers", "transformers"),
        ("maskdsl.integrations.diffusers", "diffusers", "diffusers"),
        ("maskdsl.testing", "hypothesis", "testing"),
    ],
)
def test_a_library_that_is_not_there(module, library, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(AttnError, match=rf"E610[\s\S]*pip install \"maskdsl\[{extra}\]\"") as raised:
        import_module(module)
    assert isinstance(raised.value, ImportError)

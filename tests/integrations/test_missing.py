"""Without a library, what to install; and nothing is imported before it is asked for."""

import sys
from importlib import import_module

import pytest

from maskdsl import AttnError


@pytest.mark.parametrize("library", ["transformers", "diffusers"])
def test_a_library_that_is_not_there(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"maskdsl.integrations.{library}", raising=False)
    with pytest.raises(AttnError, match=rf"E610[\s\S]*pip install \"maskdsl\[{library}\]\""):
        import_module(f"maskdsl.integrations.{library}")

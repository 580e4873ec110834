"""What type checkers are told is what there is."""

from typing import get_args

from maskdsl.base.arguments import BackendName, LayoutName
from maskdsl.runtime.backends.available import BACKENDS


def test_names_of_backends_and_layouts() -> None:
    assert set(get_args(BackendName)) == {"auto", *BACKENDS}
    assert get_args(LayoutName) == ("declared", "ordered")

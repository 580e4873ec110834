"""What tests of compiled C share: a small text, and whether this machine can compile it."""

import pytest

from maskdsl.runtime.backends.native.c_compiler import NoLibrary, c_compiler

TEXT = "int maskdsl_native_version(void) { return 7; }\n"
"""In place of the file itself, which takes a second to compile."""


def compiler_of_this_machine() -> str:
    """Its command; empty if there is none."""
    try:
        return c_compiler().name
    except NoLibrary:
        return ""


NEEDS_COMPILER = pytest.mark.skipif(not compiler_of_this_machine(), reason="there is no C compiler")

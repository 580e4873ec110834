"""Hypothesis strategies: random patterns, relations, inputs and tensors, for tests of maskdsl and of what uses it.

    from hypothesis import given, strategies as st
    from maskdsl.testing import inputs_for, patterns

    @given(st.data(), patterns())
    def test_mine(data, pattern):
        mask = pattern.bind()                              # always binds
        inputs = data.draw(inputs_for(mask.ir, batch=2))   # fits the mask; also any mask of your own
        attended = mask.dense(**inputs)

Needs hypothesis: `pip install maskdsl[testing]`. Imports `ir` and `api`; nothing of maskdsl imports it.
"""

from maskdsl.base.libraries import missing

try:
    import hypothesis as hypothesis
except ImportError as error:
    raise missing(error, "`maskdsl.testing`", "hypothesis", extra="testing") from error

from maskdsl.testing.inputs import inputs_for, tensors_for
from maskdsl.testing.patterns import RandomPattern, patterns, relations

__all__ = ["RandomPattern", "inputs_for", "patterns", "relations", "tensors_for"]

"""Sinks of a model, one score a head: what a pattern reads of them, and where they cannot be added to its outputs."""

from collections.abc import Container

from maskdsl import AttnError
from maskdsl.base.errors.calls import libraries as errors
from maskdsl.integrations.layers import Compiled

SINKS = "s_aux"
"""The name of a model's sinks among the arguments and inputs of a layer."""
_BRANCHES = "a pattern with branches has several sums, and the model's sinks are of one: say them in the branches"
_CURE = (
    "the pattern has sinks of its own: let them read the model's, as `sink s_aux[head]` with an `input s_aux: "
    "float[heads]`; or leave them out of the pattern, and the model's are added"
)


def missing_sinks(attention: Compiled, given: Container[str]) -> list[str]:
    """The inputs that the pattern's sinks read and nobody gives."""
    return [name for name in attention.sink_inputs or () if name not in given]


def check_sinks(name: str, attention: Compiled, given: Container[str]) -> None:
    """Raises `AskedMore` where the sinks of the model are not those of the pattern, and cannot be added to it."""
    sinks = attention.sink_inputs
    if sinks is None and attention.branches and SINKS not in attention.inputs:
        raise AttnError(errors.AskedMore(name=name, argument=SINKS, cure=_BRANCHES))
    if sinks is not None and (not sinks or len(missing_sinks(attention, given)) > 1):
        raise AttnError(errors.AskedMore(name=name, argument=SINKS, cure=_CURE))

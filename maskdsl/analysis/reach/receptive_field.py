"""Receptive fields: how far information travels through the layers of a stack, or through one repeated pattern.

Tokens keep their information, as with residual connections. After d layers a token *draws from* the tokens that its
output may depend on, and *is read by* the tokens whose outputs may depend on it. Heads count together.

The result is exact by token for short sequences and sparse layers, and otherwise bounded by tiles: full tiles connect
for certain, partial tiles possibly.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskdsl.analysis.reach.arrival import Arrival, find_arrival
from maskdsl.analysis.reach.connections import Connections, find_connections, narrowed
from maskdsl.analysis.reach.hops import LayerHops, estimate_runs, find_layer
from maskdsl.analysis.tiles.head_classes import check_size
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls import analysis as errors
from maskdsl.base.records import dataclass
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.routed_inputs import find_in_layers
from maskdsl.ir.stack import StackIR

SMALL = 1 << 13
"""Sequences up to this length are always searched token by token."""
MOST_PAIRS = 1 << 29
"""The most pairs in partial tiles of longer sequences that are searched token by token."""
_MOST_RUNS = 1 << 21
"""The most runs of keys of longer sequences that are searched token by token."""
TILES = 1 << 10
"""About the number of blocks of longer sequences."""
_MOST_LAYERS = 1000
_MOST_WORK = 1 << 27
"""About the most runs and tokens visited from one token, if the number of layers is not given."""


@dataclass(frozen=True, eq=False)
class Field:
    """The receptive field of one token, and the connections between all tokens."""

    name: str
    length: int
    period: int
    """Layers of the stack, which repeats after them."""
    block: int
    """Tokens of a block; 1 if everything about the one token is exact."""
    token: int
    layers: int
    """The layers asked for; else those after which nothing is added, or the search stopped."""
    settled: bool
    """Whether more layers would add nothing."""
    draws: Arrival
    """The tokens that the token draws from."""
    readers: Arrival
    """The tokens that read the token."""
    connections: Connections

    @property
    def exact(self) -> bool:
        """Whether everything about the one token is exact."""
        return self.draws.latest is self.draws.earliest

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, lists and dictionaries, for JSON."""
        growth = [
            {"layers": number} | {name: _reach(each, number) for name, each in self.directions.items()}
            for number in range(self.layers + 1)
        ]
        names = ("name", "length", "period", "block", "token", "settled", "exact")
        head = {name: getattr(self, name) for name in names}
        return head | {"growth": growth, "connections": self.connections.as_dict()}

    @property
    def directions(self) -> dict[str, Arrival]:
        """Both arrivals, by their names in JSON."""
        return {"draws_from": self.draws, "read_by": self.readers}


def _reach(arrival: Arrival, layers: int) -> dict[str, Any]:
    least, most = arrival.count(layers)
    first, last = arrival.extent(layers)
    return {"tokens": least, "at_most": most, "first": first, "last": last, "unbroken": list(arrival.unbroken(layers))}


def field(
    subject: MaskIR | StackIR,
    *,
    token: int | None = None,
    layers: int | None = None,
    inputs: Mapping[str, object] | None = None,
) -> Field:
    """The receptive field of a token in a stack, or in one repeated pattern.

    `token` defaults to the middle of the largest space, `layers` to as many as add anything, up to a limit. `inputs`
    has those that decide the relations. Raises `AttnError` for cross-attention, for a token or number of layers out of
    range, and for inputs that are missing or do not fit.
    """
    stack = as_stack(subject)
    _check(stack, token, layers)
    given = find_in_layers(stack, inputs or {})
    block, different = _find_layers(stack, given)
    all_layers = [different[number] for number in stack.index]
    start = _middle(stack.different[0]) if token is None else token
    limit = max(layers or 0, _most_layers(stack, different))
    length, period = stack.length, len(stack.index)
    draws, seen = find_arrival(all_layers, start, length, limit, drawing=True)
    read, others = find_arrival(all_layers, start, length, limit, drawing=False)
    last = max(int(each.max()) for each in (draws.earliest, draws.latest, read.earliest, read.latest))
    ended = max(seen, others) - last >= period
    connections = find_connections(stack, given, different, block)
    return Field(
        name=stack.name,
        length=length,
        period=period,
        block=block,
        token=start,
        layers=layers if layers is not None else last if ended else limit,
        settled=ended and (layers is None or last <= layers),
        draws=draws,
        readers=read,
        connections=narrowed(connections, draws, read, period) if ended else connections,
    )


def as_stack(subject: MaskIR | StackIR) -> StackIR:
    """The stack itself, or a stack of one layer. Raises `FieldOfCrossAttention` if layers cannot be stacked."""
    if isinstance(subject, StackIR):
        return subject
    mask = subject
    if not mask.is_layer:
        raise AttnError(errors.FieldOfCrossAttention(pattern=mask.name, span=mask.span))
    return StackIR(mask.name, mask.parameters, mask.heads, (mask,), (0,), mask.doc, mask.span)


def _check(stack: StackIR, token: int | None, layers: int | None) -> None:
    mask = stack.different[0]
    check_size(mask, (1, 1))
    if not stack.length:
        raise AttnError(errors.FieldOfNothing(pattern=mask.name, span=mask.span))
    if token is not None and not 0 <= token < stack.length:
        raise AttnError(errors.UnknownToken(token=token, last=stack.length - 1))
    if layers is not None and not 0 <= layers <= _MOST_LAYERS:
        raise AttnError(errors.FieldLayers(layers=layers, limit=_MOST_LAYERS))


def _find_layers(stack: StackIR, given: Sequence[Mapping[str, object]]) -> tuple[int, list[LayerHops]]:
    """The block size and the hops of the different layers: by token if that is fast enough, else by tiles."""

    def by(block: int) -> list[LayerHops]:
        return [find_layer(mask, block, inputs) for mask, inputs in zip(stack.different, given, strict=True)]

    if stack.length <= SMALL:
        return 1, by(1)
    block = 1 << (stack.length // TILES).bit_length()
    layers = by(block)
    pairs = sum(hop.runs.count for layer in layers for hop in layer.possible) * block**2
    if not 0 < pairs <= MOST_PAIRS:  # exact already, or too many pairs
        return block, layers
    masks = zip(stack.different, given, strict=True)
    runs = sum(estimate_runs(mask, block, inputs) for mask, inputs in masks)
    return (block, layers) if runs > _MOST_RUNS else (1, by(1))


def _most_layers(stack: StackIR, different: Sequence[LayerHops]) -> int:
    """The layers to follow at most if their number is not given: a whole number of passes."""
    once = stack.length + sum(len(hop.runs.start) for layer in different for hop in layer.all)
    passes = _MOST_WORK // (once * len(stack.index) ** 2)
    return min(_MOST_LAYERS, max(1, passes) * len(stack.index))


def _middle(mask: MaskIR) -> int:
    """The position of the token in the middle of every axis of the largest space."""
    sequence = mask.queries
    space, offset = max(zip(sequence.spaces, sequence.offsets, strict=True), key=lambda each: each[0].size)
    lengths = [axis.length for axis in space.axes]
    return offset + int(np.ravel_multi_index([length // 2 for length in lengths], lengths))

"""The routing state of the sequences that an engine computes step by step, so that a step summarises new keys only."""

import torch

from maskdsl import Attention, RoutingState
from maskdsl.integrations.serving.pages import EngineStep


class KeptRoutes:
    """The state of the sequences of the last step, an entry each.

    A sequence is known by the page of its last token and by its length: pages that are not full are of one sequence,
    and a full page that others share has the same tokens before it.
    """

    def __init__(self, attention: Attention) -> None:
        self._attention = attention
        self._state = attention.routing_state(0)
        self._entries: dict[tuple[int, int], int] = {}

    def of(self, step: EngineStep, size: int) -> RoutingState:
        """The state before a step over pages of `size` tokens; entries that the last step had not are empty."""
        lengths, starts = step.key_lengths.tolist(), step.starts.tolist()
        first, last = ([max(each - 1, 0) // size for each in ends] for ends in (starts, lengths))
        before = [(int(pages[n]), each) for pages, n, each in zip(step.page_table, first, starts, strict=True)]
        entries = [self._entries.pop(each, None) for each in before]
        if entries != [*range(len(self._state.lengths))]:
            if any(each is not None for each in entries):
                self._state.reorder([each or 0 for each in entries])
                known = [0 if each is None else start for each, start in zip(entries, starts, strict=True)]
                self._state.truncate(torch.tensor(known))
            else:
                self._state = self._attention.routing_state(len(entries))
        after = [(int(pages[n]), each) for pages, n, each in zip(step.page_table, last, lengths, strict=True)]
        self._entries = {each: number for number, each in enumerate(after)}
        return self._state

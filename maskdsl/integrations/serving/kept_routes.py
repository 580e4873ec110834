"""Routing states of the sequences that an engine computes step by step, so that a step summarises new keys only."""

from maskdsl import Attention, RoutingState
from maskdsl.integrations.serving.pages import EngineStep


class KeptRoutes:
    """The states of the sequences of the last step.

    A sequence is known by the page of its last token and by its length: pages that are not full are of one sequence,
    and a full page that others share has the same tokens before it.
    """

    def __init__(self, attention: Attention) -> None:
        self._attention = attention
        self._kept: dict[tuple[int, int], RoutingState] = {}

    def of(self, step: EngineStep, size: int) -> list[RoutingState]:
        """The state of each sequence before a step over pages of `size` tokens, empty if the last step had it not."""
        lengths = step.key_lengths.tolist()
        starts = step.starts.tolist()
        states, now = list[RoutingState](), dict[tuple[int, int], RoutingState]()
        for pages, start, length in zip(step.page_table, starts, lengths, strict=True):
            last = int(pages[max(start - 1, 0) // size]), start
            states.append(self._kept.pop(last) if last in self._kept else self._attention.routing_state(1))
            now[int(pages[max(length - 1, 0) // size]), length] = states[-1]
        self._kept = now
        return states

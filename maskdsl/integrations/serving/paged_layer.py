"""One attention layer of a served model: its pattern over the pages of the engine's cache."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maskdsl import Attention, Heads, RoutingState
from maskdsl.integrations.layers import scaled_for
from maskdsl.integrations.serving.kept_routes import KeptRoutes
from maskdsl.integrations.serving.pages import EngineStep, KeyPages
from maskdsl.integrations.sinks import SINKS, check_sinks, missing_sinks


@dataclass(frozen=True, eq=False)
class PagedLayer:
    """The attention of a layer for what an engine computes at once."""

    name: str
    """In errors."""
    attention: Attention
    heads: Heads
    scale: float | None
    """The model's scale of scores, None if it is 1 / sqrt(head dim)."""
    sinks: Tensor | None
    """The model's sinks, [heads here]: for each head the score of a key without value."""
    inputs: Mapping[str, Any]
    """The pattern's, alike for all sequences."""
    routes: KeptRoutes | None
    """States of its sequences; None for patterns without routes."""

    def attend(self, q: Tensor, pages: KeyPages, step: EngineStep, out: Tensor) -> None:
        """Writes the output [tokens, heads, dim of v] of queries [tokens, heads, head dim]; more rows are padding."""
        q, result = q[: step.tokens], out[: step.tokens]
        inputs = self._inputs()
        adds_sinks = self.sinks is not None and self.attention.sink_inputs is None and SINKS not in inputs
        q = scaled_for(self.attention, q[None], self.scale, self.name)[0]
        state = None if self.routes is None else self.routes.of(step, pages.k.shape[2])
        if state is not None and pages.k.dtype != q.dtype:
            pages, step = pages.converted(step, q.dtype)
        scales = {"key_scale": pages.key_scale, "value_scale": pages.value_scale}
        named: dict[str, Any] = {**inputs, **scales, "return_lse": adds_sinks}
        if step.is_even:
            lse = self._even(q, pages, step, result, {**named, "routing_state": state})
        elif state is not None or step.is_on_host:
            if state is not None:
                state.update(pages.k, step.key_lengths, step.page_table, **inputs)
            lse = self._in_groups(state, q, pages, step, result, named)
        else:
            named |= {"key_lengths": step.key_lengths, "page_table": step.page_table}
            lse = _lse(self.attention.varlen(q, pages.k, pages.v, step.ends, out=result, **named))
        if lse is not None:
            assert self.sinks is not None
            result *= torch.sigmoid(lse.T - self.sinks)[..., None].to(result.dtype)

    def _even(self, q: Tensor, pages: KeyPages, step: EngineStep, out: Tensor, named: dict[str, Any]) -> Tensor | None:
        """As `varlen`, of sequences that are the entries of one partial call: nothing is gathered for it."""
        entries = (len(step.key_lengths), step.longest)
        computed = self.attention(
            q.view(*entries, *q.shape[1:]).transpose(1, 2),
            pages.k,
            pages.v,
            query_start=step.starts,
            key_lengths=step.key_lengths,
            page_table=step.page_table,
            out=out.view(*entries, *out.shape[1:]).transpose(1, 2),
            **named,
        )
        lse = _lse(computed)
        return None if lse is None else lse.transpose(0, 1).flatten(1)

    def _in_groups(
        self,
        state: RoutingState | None,
        q: Tensor,
        pages: KeyPages,
        step: EngineStep,
        out: Tensor,
        named: dict[str, Any],
    ) -> Tensor | None:
        """As `varlen`, by sequences with as many new tokens, which all layers share; a state has all keys by now."""
        sums = q.new_empty((q.shape[1], len(q)), dtype=torch.float32) if named["return_lse"] else None
        for some, numbers, tokens in step.groups:
            here = None if state is None else state.clone()
            if here is not None:
                here.reorder(numbers)
            result = out.new_empty(len(tokens), *out.shape[1:])
            lse = self._even(q[tokens], pages, some, result, {**named, "routing_state": here})
            out[tokens] = result
            if sums is not None and lse is not None:
                sums[:, tokens] = lse
        return sums

    def _inputs(self) -> dict[str, Any]:
        """The inputs of a call, the model's sinks among them where the pattern's sinks read them."""
        given = {name: x for name, x in self.inputs.items() if name in self.attention.inputs}
        if self.sinks is not None:
            check_sinks(self.name, self.attention, given)
            wanted = missing_sinks(self.attention, given)
            if SINKS in self.attention.inputs and SINKS not in given:
                wanted = [SINKS]
            whole = self.sinks.new_zeros(self.heads.whole)
            whole[self.heads.first : self.heads.first + self.heads.count] = self.sinks
            given |= dict.fromkeys(wanted, whole)
        return given


def _lse(computed: Tensor | tuple[Tensor, ...]) -> Tensor | None:
    """The log-sum-exp of a call, if it was asked for."""
    return None if isinstance(computed, Tensor) else computed[1]

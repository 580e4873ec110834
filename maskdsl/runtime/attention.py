"""The modules that users call: `Attention`, at fixed lengths, and `FollowingAttention`, at those of each call."""

from collections.abc import Iterable
from typing import Any, cast

import torch

from maskdsl.analysis.reach.lookback import reaches
from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.base.arguments import (
    BATCH,
    BLOCK,
    COUNT,
    HEAD_DIM,
    TENSORS,
    TEXT,
    Kind,
    LayoutName,
    TensorLayout,
    integer,
    optional,
    takes,
)
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls.backends import BranchedFlex
from maskdsl.base.limits import MOST_ENTRIES
from maskdsl.bind.statement.unread_inputs import names_in
from maskdsl.ir.facts.trace import pair_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.given_lists import holding
from maskdsl.ir.meaning.inputs import batch_entries, input_arrays
from maskdsl.runtime.backends.flex_export import FlexArguments, flex_arguments
from maskdsl.runtime.base.call_cache import as_array
from maskdsl.runtime.base.tokens_first import TokensFirst, tokens_first
from maskdsl.runtime.base_attention import BaseAttention
from maskdsl.runtime.compiled.compiled_mask import Bound
from maskdsl.runtime.compiled.following import Following
from maskdsl.runtime.routing.branched_state import BranchedState
from maskdsl.runtime.routing.routing_state import RoutingState
from maskdsl.syntax.tree import LetStatement, PatternDeclaration, ScaleStatement, ScoreStatement, SinkStatement


def _device(value: Any) -> torch.device:
    try:
        return torch.device(value)
    except RuntimeError as error:
        raise ValueError(value) from error


_DEVICE = Kind("a device of torch", _device)


class Attention(BaseAttention, Displayed):
    """The attention of a mask, at the lengths that it was bound with. Made by `Mask.compile`.

    Call it as `attention(q, k, v, **inputs)`: see `forward`, and `varlen` for packed sequences.
    """

    _compiled: Bound

    def __init__(self, compiled: Bound, layout: TensorLayout = "bhnd") -> None:
        super().__init__(compiled, tokens_first(compiled.plan.mask) if layout == "bnhd" else None)

    @property
    def mask(self) -> MaskIR:
        """The compiler's representation of the mask, `Mask.ir`. It may change in the next version."""
        return self._compiled.plan.mask

    @property
    def backend(self) -> str:
        """The name of the backend that computes. For "auto", `tiled`, which serves every device."""
        return self._compiled.default_kernel.backend.name

    @property
    def source(self) -> str:
        """The text of the module that `backend` generates; of a pattern with branches, of a module for each branch."""
        branches = self.mask.branches
        if not branches:
            return self._compiled.default_kernel.source
        bounds = (self._compiled.sum_of((number,)) for number in range(len(branches)))
        titled = zip(branches, bounds, strict=True)
        return "\n".join(f"# branch {each.branch}\n\n{bound.default_kernel.source}" for each, bound in titled)

    @property
    def query_length(self) -> int:
        """The number of queries, in tokens."""
        return self.mask.queries.length

    @property
    def key_length(self) -> int:
        """The number of keys, in tokens, pooled ones included."""
        return self.mask.keys.length

    @property
    def self_attention(self) -> bool:
        """Whether queries and keys are the same tokens."""
        return self.mask.self_attention

    @property
    def changes_scores(self) -> bool:
        """Whether the pattern has `score` statements."""
        return any(each.scores for each in self.mask.branches or (self.mask,))

    @property
    def has_scale(self) -> bool | None:
        """Whether the pattern has a `scale` statement; None if only some of its branches have one."""
        return _alike(each.scale is not None for each in self.mask.branches or (self.mask,))

    @property
    def sink_inputs(self) -> frozenset[str] | None:
        """The inputs that the pattern's sinks read; None if it has no sinks."""
        masks = [each for each in self.mask.branches or (self.mask,) if each.sinks]
        read = {name for each in masks for name in pair_trace(each, each.sinks).inputs}
        declared = {(each.source or each.name) for each in self.mask.inputs if each.name in read} | read
        return frozenset(declared.intersection(self.inputs)) if masks else None

    @takes(queries=COUNT, keys=optional(COUNT))
    def at(self, queries: int, keys: int | None = None) -> "Attention":
        """This attention. Its lengths are fixed, and are the most that a call can have."""
        return self

    @takes(distance=integer())
    def reaches(self, distance: int) -> bool | None:
        """Whether a query may attend a key `distance` tokens back or further; None where inputs decide.

        Exact, except that routes count as selecting all their candidates.
        """
        return reaches(self.mask, distance)

    def tiles(self, **inputs: Any) -> BlockMap:
        """The block map of a call with these inputs in the order of the pattern, in tiles of the usual size."""
        plan = self._compiled.plan
        given = {name: as_array(torch.as_tensor(x)) for name, x in holding(plan.mask.given, inputs).items()}
        arrays = input_arrays(plan.mask, given, plan.tile_inputs)
        known = {name: torch.as_tensor(arrays[name]) for name in plan.tile_inputs}
        state = self._compiled.states.find(plan, known, batch_entries(plan.mask, arrays))
        return state.tiles((plan.query_block, plan.key_block))

    @takes(block=BLOCK, layout=TEXT, device=_DEVICE, batch=optional(BATCH), head_dim=optional(HEAD_DIM))
    def to_flex(
        self,
        *,
        block: int | tuple[int, int] = (128, 128),
        layout: LayoutName = "declared",
        device: torch.device | str = "cpu",
        batch: int | None = None,
        head_dim: int | None = None,
        **inputs: Any,
    ) -> FlexArguments:
        """The arguments of FlexAttention: `flex_attention(q, k, v, **attention.to_flex().arguments)`.

        They are a generated `mask_mod` and `score_mod`, and a `BlockMask` of the exact tiles of `block` (queries, keys)
        tokens, on `device`. The "declared" layout ignores the pattern's order; "ordered" takes and returns tensors in
        it. `batch` is the number of batch entries, by default that of the inputs; give it where a pattern reads `batch`
        and no input has a batch dimension. `head_dim` is needed where a pattern reads `dim`. Raises `AttnError` for
        branches, pooled keys, routes and `weight`, which FlexAttention cannot express in one call, and for inputs that
        do not fit.
        """
        if self.mask.branches:
            raise AttnError(BranchedFlex(pattern=self.name, span=self.span))
        sides, target = cast("tuple[int, int]", block), torch.device(device)
        return flex_arguments(self._compiled.plan, self._signature, inputs, sides, layout, target, batch, head_dim)

    @takes(batch=integer(0, MOST_ENTRIES))
    def routing_state(self, batch: int = 1) -> RoutingState:
        """An empty `RoutingState` for decoding with `batch` entries. Raises `AttnError` if the pattern pools keys."""
        kind = BranchedState if self.mask.branches and self._compiled.signature.is_routed else RoutingState
        return kind(self._compiled, batch, self.layout)

    @takes(layout=TENSORS)
    def in_layout(self, layout: TensorLayout) -> "Attention":
        """This attention for tensors of that layout: see `Mask.compile`."""
        return self if layout == self.layout else Attention(self._compiled, layout)

    def _shown_(self) -> tuple[object, ...]:
        return self.mask, self.backend, self.source

    def extra_repr(self) -> str:
        mask = self.mask
        lengths = f"{mask.queries.length} x {mask.keys.length}"
        return f"{mask.name}, {lengths}, heads={mask.heads}, backend={self.backend!r}{_shown_layout(self)}"


class FollowingAttention(BaseAttention):
    """The attention of a pattern, at the lengths of the tensors of each call. Made by `Pattern.compile`.

    Binds, and finds tiles, once for each length; the last 32 are cached. Kernels serve all lengths. A call raises what
    `Pattern.bind` raises at its lengths.
    """

    _compiled: Following

    def __init__(self, compiled: Following, layout: TensorLayout = "bhnd") -> None:
        signature = compiled.signature
        super().__init__(compiled, TokensFirst(signature.pattern, signature.span) if layout == "bnhd" else None)

    @property
    def changes_scores(self) -> bool:
        """Whether the pattern has `score` statements."""
        return any(isinstance(line, ScoreStatement) for each in self._declarations() for line in each.statements)

    @property
    def has_scale(self) -> bool | None:
        """Whether the pattern has a `scale` statement; None if only some of its branches have one."""
        lines = (each.statements for each in self._declarations())
        return _alike(any(isinstance(line, ScaleStatement) for line in each) for each in lines)

    @property
    def sink_inputs(self) -> frozenset[str] | None:
        """The inputs that the pattern's sinks read; None if it has no sinks."""
        lines = [line for each in self._declarations() for line in each.statements]
        sinks = tuple(line for line in lines if isinstance(line, SinkStatement))
        lets = {line.name.id: line for line in lines if isinstance(line, LetStatement)}
        read = set(names_in(sinks))
        pending = list(read)
        for name in pending:
            inside = names_in((lets[name].value,)) - read if name in lets else frozenset()
            read |= inside
            pending += inside
        return frozenset(read.intersection(self.inputs)) if sinks else None

    def _declarations(self) -> list[PatternDeclaration]:
        """The pattern, or each of its branches as a pattern."""
        compiled = self._compiled
        return [each.declaration for each in compiled.branches] or [compiled.program.patterns[self.name]]

    @takes(queries=COUNT, keys=optional(COUNT))
    def at(self, queries: int, keys: int | None = None) -> Attention:
        """The attention at these lengths, in tokens; `keys` are as many as `queries` by default.

        Raises `AttnError` if the pattern does not bind at them.
        """
        return Attention(self._compiled.bound(queries, queries if keys is None else keys), self.layout)

    @takes(layout=TENSORS)
    def in_layout(self, layout: TensorLayout) -> "FollowingAttention":
        """This attention for tensors of that layout: see `Mask.compile`."""
        return self if layout == self.layout else FollowingAttention(self._compiled, layout)

    def extra_repr(self) -> str:
        compiled = self._compiled
        heads = compiled.heads.whole
        said = f"{compiled.pattern}, follow={compiled.follow!r}, heads={heads}, backend={compiled.backend!r}"
        return f"{said}{_shown_layout(self)}"


def _alike(facts: Iterable[bool]) -> bool | None:
    """What is true of all, or of none; None if of some."""
    known = {*facts}
    return known.pop() if len(known) == 1 else None


def _shown_layout(attention: BaseAttention) -> str:
    return "" if attention.layout == "bhnd" else f", layout={attention.layout!r}"

"""What users call: a pattern compiled at its own lengths, or at those of each call."""

from typing import Any, cast

import torch

from maskdsl.analysis.reach.lookback import reaches
from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.base.arguments import BATCH, BLOCK, COUNT, MOST_ENTRIES, TEXT, Kind, LayoutName, integer, optional, takes
from maskdsl.base.display import Displayed
from maskdsl.ir.mask import DimensionKind, MaskIR
from maskdsl.runtime.backends.flex_export import FlexArguments, flex_arguments
from maskdsl.runtime.base_attention import BaseAttention
from maskdsl.runtime.compiled_mask import Bound
from maskdsl.runtime.following import Following
from maskdsl.runtime.routing.routing_state import RoutingState
from maskdsl.syntax.tree import ScoreStatement


def _device(value: Any) -> torch.device:
    try:
        return torch.device(value)
    except RuntimeError as error:
        raise ValueError(value) from error


_DEVICE = Kind("a device of torch", _device)


class Attention(BaseAttention, Displayed):
    """At the lengths that its mask was bound with. `Mask.compile` makes it."""

    _compiled: Bound

    def __init__(self, compiled: Bound) -> None:
        super().__init__(compiled)

    @property
    def mask(self) -> MaskIR:
        """What it attends, as the compiler has it: `Mask.ir`, which may be another in the next version."""
        return self._compiled.plan.mask

    @property
    def backend(self) -> str:
        """The name of the backend that computes; of "auto" the one that serves every device."""
        return self._compiled.default_kernel.backend.name

    @property
    def source(self) -> str:
        """The text of the module that this backend has generated."""
        return self._compiled.default_kernel.source

    @property
    def query_length(self) -> int:
        """Tokens of the sequence of queries."""
        return self.mask.queries.length

    @property
    def key_length(self) -> int:
        """Tokens of the sequence of keys, those among them that are pooled included."""
        return self.mask.keys.length

    @property
    def self_attention(self) -> bool:
        """Whether queries and keys are the same tokens."""
        return self.mask.self_attention

    @property
    def changes_scores(self) -> bool:
        """Whether the pattern has `score` statements."""
        return bool(self.mask.scores)

    @takes(queries=COUNT, keys=optional(COUNT))
    def at(self, queries: int, keys: int | None = None) -> "Attention":
        """This one, whatever the lengths: those of its mask are the most that calls can have."""
        return self

    @takes(distance=integer())
    def reaches(self, distance: int) -> bool | None:
        """Whether a query may attend a token `distance` positions back or more; None where inputs decide.

        Exact, but that routes may select all of their candidates.
        """
        return reaches(self.mask, distance)

    def tiles(self, **inputs: Any) -> BlockMap:
        """The block map that a call with these inputs works on."""
        plan = self._compiled.plan
        tensors = {name: torch.as_tensor(value) for name, value in inputs.items()}
        kinds = {each.name: [dimension.kind for dimension in each.dimensions] for each in plan.mask.inputs}
        sizes = [
            tensors[name].shape[kinds[name].index(DimensionKind.BATCH)]
            for name in plan.tile_inputs
            if DimensionKind.BATCH in kinds[name]
        ]
        known = {name: tensors[name] for name in plan.tile_inputs}
        state = self._compiled.states.find(plan, known, max(sizes, default=1))
        return state.tiles((plan.query_block, plan.key_block))

    @takes(block=BLOCK, layout=TEXT, device=_DEVICE, batch=optional(BATCH))
    def to_flex(
        self,
        *,
        block: int | tuple[int, int] = (128, 128),
        layout: LayoutName = "declared",
        device: torch.device | str = "cpu",
        batch: int | None = None,
        **inputs: Any,
    ) -> FlexArguments:
        """The same as FlexAttention takes it: `flex_attention(q, k, v, **attention.to_flex().arguments)`.

        A generated `mask_mod` and `score_mod`, and a `BlockMask` of the exact tiles of `block` (queries, keys). In the
        declared layout any order of the pattern is left out; "ordered" takes and gives tensors in it. The number of
        entries, `batch`, is that of the inputs; it is to be said where a pattern reads `batch` and has no such input.
        Raises `AttnError` for pooled keys, routes and `weight`, which FlexAttention cannot express.
        """
        sides, where = cast("tuple[int, int]", block), torch.device(device)
        return flex_arguments(self._compiled.plan, self._signature, inputs, sides, layout, where, batch)

    @takes(batch=integer(0, MOST_ENTRIES))
    def routing_state(self, batch: int = 1) -> RoutingState:
        """What decoding keeps of the keys of so many batch entries; of none yet."""
        return RoutingState(self._compiled, batch)

    def _shown_(self) -> tuple[object, ...]:
        return self.mask, self.backend, self.source

    def extra_repr(self) -> str:
        mask = self.mask
        lengths = f"{mask.queries.length} x {mask.keys.length}"
        return f"{mask.name}, {lengths}, heads={mask.heads}, backend={self.backend!r}"


class FollowingAttention(BaseAttention):
    """At the lengths of the tensors of each call. `Pattern.compile` makes it."""

    _compiled: Following

    def __init__(self, compiled: Following) -> None:
        super().__init__(compiled)

    @property
    def changes_scores(self) -> bool:
        """Whether the pattern has `score` statements."""
        statements = self._compiled.program.patterns[self.name].statements
        return any(isinstance(each, ScoreStatement) for each in statements)

    @takes(queries=COUNT, keys=optional(COUNT))
    def at(self, queries: int, keys: int | None = None) -> Attention:
        """The attention of these lengths; one is enough where queries and keys are the same tokens."""
        return Attention(self._compiled.bound(queries, queries if keys is None else keys))

    def extra_repr(self) -> str:
        compiled = self._compiled
        heads = compiled.heads.whole
        return f"{compiled.pattern}, follow={compiled.follow!r}, heads={heads}, backend={compiled.backend!r}"

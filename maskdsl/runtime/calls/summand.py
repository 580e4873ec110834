"""`Summand`: the attention of one mask, in calls whose arguments are known to fit."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.compiler import is_compiling

from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.calls.normalization import AllQueriesNeeded
from maskdsl.base.errors.calls.selection import LaidOutProducts, LaidOutRoute
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.expressions import Side
from maskdsl.ir.mask import Normalize
from maskdsl.ir.routes import Draw
from maskdsl.runtime.base.kept import in_no_mode
from maskdsl.runtime.base.passed_inputs import NO_LENGTHS, passed
from maskdsl.runtime.calls.carried import carried
from maskdsl.runtime.calls.debugging import check_reads, check_scores
from maskdsl.runtime.calls.varlen import attend_packed
from maskdsl.runtime.compiled.compiled_mask import Bound, CompiledMask, register
from maskdsl.runtime.compiled.mask_calls import Knows
from maskdsl.runtime.decode.cache_types import NO_SCALES, Scales, are_readable, check_cache, converted, read_as_they_are
from maskdsl.runtime.decode.decode_call import attend
from maskdsl.runtime.decode.key_slices import attend_slices
from maskdsl.runtime.decode.paging import CallPositions, call_positions, room
from maskdsl.runtime.decode.regrouped import two_passes
from maskdsl.runtime.kernels.product_finder import tokens_at_once
from maskdsl.runtime.routing.find_op import with_partial_routed, with_routed
from maskdsl.runtime.routing.listed_mask import listed_form
from maskdsl.runtime.routing.routing_state import RoutingState
from maskdsl.runtime.routing.selected_tables import SelectedTables
from maskdsl.runtime.routing.shared_routes import SharedRoutes
from maskdsl.runtime.torch_ops.attention_op import whole_attention
from maskdsl.runtime.torch_ops.handle import Handle
from maskdsl.runtime.torch_ops.product_op import attend_multiplied, check_multiplied
from maskdsl.runtime.torch_ops.vmap import is_mapped, unwrapped


def sum_of(outs: list[Tensor]) -> Tensor:
    """The sum of the outputs of summands, rounded once."""
    wide = torch.promote_types(outs[0].dtype, torch.float32)
    first, *others = outs
    whole = first.to(wide)
    for number, each in enumerate(others):
        whole = whole.add_(each) if number else whole + each
    return whole.to(first.dtype)


class CallOptions(NamedTuple):
    """The options of a call, the same for all summands of a pattern with branches."""

    layout: str
    wants_lse: bool
    debug: bool
    positions: CallPositions | None
    """None for a call with all queries."""
    state: RoutingState | None
    routes: SharedRoutes | None
    """None for a pattern without branches, which finds its routes itself."""
    selected: SelectedTables | None
    """None where the caller does not ask what was selected."""
    knows: Knows = Bound.by_version
    """What is known of the inputs in a call with all queries."""
    scales: Scales = NO_SCALES
    """Of the keys and values of a partial call."""
    target: Tensor | None = None
    """Where kernels may write the output, shaped as that and of the type of q."""


class Summand:
    """The attention of a pattern without branches, or of some branches of another, as one mask computes it."""

    def __init__(self, compiled: CompiledMask) -> None:
        self.compiled = register(compiled)
        self.handle = Handle(compiled.handle, carried(compiled))
        self.signature = compiled.signature
        self.follows = not isinstance(compiled, Bound)  # warm calls do nothing about lengths that are known
        listed = listed_form(compiled)
        self.listed = None if listed is None else Summand(listed)
        """For calls with all queries on a CPU, where routes may give lists."""
        for each in self.signature.declared:
            _ = each.held  # cached now: before Python 3.12, torch.compile cannot trace how

    def attended(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: list[Tensor], options: CallOptions
    ) -> tuple[Tensor, Tensor]:
        """The output and the log-sum-exp of a pattern without branches, or of one summand of another."""
        positions, state = options.positions, options.state
        if positions is not None and self.signature.normalize is Normalize.BY_KEY:
            raise AttnError(AllQueriesNeeded(pattern=self.signature.pattern, span=self.signature.span))
        if inputs or self.signature.changes_inputs:
            inputs = self.passed(q, k, inputs, positions)
        if positions is None:
            whole = self if self.listed is None or q.device.type != "cpu" else self.listed
            return whole._whole(q, k, v, inputs, options)
        if options.scales is not NO_SCALES or not q.dtype == k.dtype == v.dtype:
            check_cache(q, k, v, inputs, positions.page_table is not None)
            if self._reads_keys(k, q, positions) or not are_readable(k, v):
                return self._dequantized(q, k, v, inputs, options)
            wide, narrow = read_as_they_are(q, k, v, options.scales)
            return narrow(*attend(self.handle, wide, k, v, inputs, positions))
        given = len(inputs)
        if self.signature.is_routed and state is not None:
            inputs = [*inputs, *state._find(self.handle.in_graphs(), q, k, inputs, positions)]
        elif self.signature.is_routed:
            find = partial(with_partial_routed, self.handle.in_graphs(), q, k, inputs, positions)
            inputs = self._routed((q.shape[2], room(k, positions)), inputs, options, find)
        if options.selected is not None and self.signature.is_routed:
            bound = self.compiled.bound(q.shape[2], room(k, positions))
            names = [each.name for each in bound.partial_route_finder.wanted]
            options.selected.add(bound.plan.mask, names, inputs[given:])
        table = positions.page_table
        if self.signature.multiplies and (table is None or table.dim() == 2) and self._can_split(q, k, v, inputs):
            compiled = self.compiled.bound(q.shape[2], room(k, positions))
            steps = self._steps(compiled, q, room(k, positions))
            if steps[1] is not None:
                return attend_slices(compiled, q, k, v, inputs, (steps[0] or q.shape[2], steps[1]), positions)
        return attend(self.handle, q, k, v, inputs, positions, options.target)

    def _reads_keys(self, k: Tensor, q: Tensor, positions: CallPositions) -> bool:
        """Whether something but attention reads keys: routes, products of vectors, pools."""
        if self.signature.is_routed or self.signature.multiplies:
            return True
        return self.compiled.bound(q.shape[2], room(k, positions)).plan.mask.keys.is_pooled

    def _dequantized(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: list[Tensor], options: CallOptions
    ) -> tuple[Tensor, Tensor]:
        """A partial call whose keys and values are of another type than the queries, converted before it."""
        assert options.positions is not None
        tensors, positions = converted(q, k, v, options.scales, options.positions)
        out, lse = self.attended(*tensors, inputs, options._replace(scales=NO_SCALES, positions=positions))
        return out.to(q.dtype), lse

    def packed(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        ends_q: Tensor,
        ends_k: Tensor,
        starts: Tensor | None,
        given: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """As `attended`, for packed sequences: see `varlen`."""
        has_all = starts is None and (self.signature.crosses or ends_k is ends_q)
        if self.signature.normalize is Normalize.BY_KEY and not has_all:
            raise AttnError(AllQueriesNeeded(pattern=self.signature.pattern, span=self.signature.span))
        if q.dim():
            lengths = self._lengths_of(given, partial(self.compiled.bound_to_longest, ends_q, ends_k))
            given = passed(self.signature, given, len(ends_q) - 1, q.shape[-1], q.device, lengths)
        out, lse = attend_packed(self.handle.in_graphs(), q, k, v, given, ends_q, ends_k, starts)
        return out[0].transpose(0, 1), lse[0]

    def passed(self, q: Tensor, k: Tensor, inputs: list[Tensor], positions: CallPositions | None) -> list[Tensor]:
        """The inputs of the mask before routes are found. Malformed q and k are found later."""
        if q.dim() != 4 or k.dim() != 4:
            return inputs
        lengths: Mapping[str, int] = NO_LENGTHS
        if self.follows and positions is None and is_compiling():
            lengths = {"tokens": q.shape[2], "queries": q.shape[2], "keys": k.shape[2]}
        elif self.follows:
            keys = k.shape[2] if positions is None else room(k, positions)
            lengths = self._lengths_of(inputs, partial(self.compiled.bound, q.shape[2], keys))
        return passed(self.signature, inputs, q.shape[0], q.shape[3], q.device, lengths)

    def _lengths_of(self, inputs: list[Tensor], bound: Callable[[], Bound]) -> Mapping[str, int]:
        """The lengths of token dimensions, where they follow the tensors and some input has the side 1 for them."""
        if not self.follows or is_compiling() or not any(1 in each.shape for each in inputs):
            return NO_LENGTHS
        sides = (side for each in bound().signature.declared for side in each.dimensions)
        return {side.text: side.size for side in sides if side.kind is DimensionKind.TOKENS and side.size is not None}

    def _routed(
        self, lengths: tuple[int, int], inputs: list[Tensor], options: CallOptions, find: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        """All inputs: the given ones, then the routed ones, which `find` gives or another branch has found."""
        if options.routes is None:
            return find()
        return options.routes.with_routed(self.compiled, lengths, inputs, find)

    def _whole(
        self, q: Tensor, k: Tensor, v: Tensor, inputs: list[Tensor], options: CallOptions
    ) -> tuple[Tensor, Tensor]:
        """A call with all queries, from the given inputs."""
        layout = options.layout
        if layout != "declared" and (self.signature.is_routed or self.signature.multiplies):
            layout = self._checked_layout(q, k)
        if self.signature.is_routed:
            find, given = partial(with_routed, self.handle.in_graphs(), q, k, inputs), len(inputs)
            inputs = self._routed((q.shape[2], k.shape[2]), inputs, options, find)
            if options.selected is not None:
                bound = self.compiled.bound(q.shape[2], k.shape[2])
                names = [each.name for each in bound.route_finder.declared]
                options.selected.add(bound.plan.mask, names, inputs[given:])
        if options.debug:
            check_reads(self.compiled.bound(q.shape[2], k.shape[2]), q, k, v, inputs)
            check_scores(self.compiled.bound(q.shape[2], k.shape[2]).plan.mask, q, k, inputs)
        if self.signature.multiplies:
            return self._multiplied(q, k, v, inputs)
        # While torch.compile traces, no mask can be made, as two passes need: then there is one.
        if self.signature.is_routed and not is_compiling():
            compiled = self.compiled.bound(q.shape[2], k.shape[2])
            passes = two_passes(compiled, compiled.kernel(q, v).backend) if layout == "declared" else None
            if any(map(is_mapped, (q, k, v, *inputs))):
                passes = None  # under vmap the host cannot read values, on which two passes depend
            if passes is not None:
                with in_no_mode():
                    compiled.open_reads.check([*map(unwrapped, inputs)], q.shape[0])
            results = None if passes is None else passes.attend(q, k, v, inputs)
            if results is not None:
                return results
        return whole_attention(q, k, v, inputs, self.handle, layout, options.wants_lse, options.knows, options.target)

    def _checked_layout(self, q: Tensor, k: Tensor) -> str:
        """The layout of a call in laid-out order: the declared one without an order. Draws read no tokens."""
        if isinstance(self.compiled, Bound) or not is_compiling():
            plan = self.compiled.bound(q.shape[2], k.shape[2]).plan
            if not plan.order_keys:
                return "declared"
            if not self.signature.multiplies and all(isinstance(each, Draw) for each in plan.mask.routed):
                return "ordered"
        error = LaidOutRoute if self.signature.is_routed else LaidOutProducts
        raise AttnError(error(pattern=self.signature.pattern, span=self.signature.span))

    def _multiplied(self, q: Tensor, k: Tensor, v: Tensor, inputs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """A call whose products are computed before it: in chunks of queries, or of keys, if there are many."""
        if not self._can_split(q, k, v, inputs):
            return attend_multiplied(q, k, v, inputs, self.handle.in_graphs())
        compiled = self.compiled.bound(q.shape[2], k.shape[2])
        step, key_step = self._steps(compiled, q, k.shape[2])
        if key_step is not None:
            with in_no_mode():
                check_multiplied(compiled, q.detach(), k.detach(), v.detach(), [x.detach() for x in inputs])
            return attend_slices(compiled, q, k, v, inputs, (step or q.shape[2], key_step))
        if step is None:
            return attend_multiplied(q, k, v, inputs, self.handle.in_graphs())
        chunks = (
            attend(self.handle, chunk, k, v, inputs, call_positions(chunk, number * step, None, None, None))
            for number, chunk in enumerate(torch.split(q, step, dim=2))
        )
        outs, lses = zip(*chunks, strict=True)
        return torch.cat(outs, dim=2), torch.cat(lses, dim=2)

    @staticmethod
    def _can_split(q: Tensor, k: Tensor, v: Tensor, inputs: list[Tensor]) -> bool:
        """Whether a call may become several, by what it computes."""
        if is_compiling() or any(map(is_mapped, (q, k, v, *inputs))):
            return False
        return q.dim() == k.dim() == 4 and q.shape[2] > 0

    @staticmethod
    def _steps(compiled: Bound, q: Tensor, keys: int) -> tuple[int | None, int | None]:
        """How many queries and keys the call takes at a time; None for all."""
        mask = compiled.plan.mask
        return tokens_at_once(mask, Side.QUERY, q, q.shape[2]), tokens_at_once(mask, Side.KEY, q, keys)

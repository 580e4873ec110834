"""The native backend: the compiled kernel of `codegen/native.c` on a CPU, whose rows and masks the host makes.

What the kernel does not compute, torch operations over tiles do: float64, scores and weights that are no arithmetic of
the product, single tokens and positions, and again what is not finite.
"""

from collections.abc import Callable, Sequence
from ctypes import byref
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from maskdsl.emit.native_scores import native_of_terms
from maskdsl.emit.plan import KernelPlan, clique_plan
from maskdsl.emit.torch.native_module import emit_native
from maskdsl.runtime.backends.native.bias_panels import bias_panels
from maskdsl.runtime.backends.native.call_pairs import CallPairs
from maskdsl.runtime.backends.native.call_terms import NOTHING, CallTerms, TermArrays, set_gradients, set_terms
from maskdsl.runtime.backends.native.choice_tiles import choice_tiles
from maskdsl.runtime.backends.native.chosen_rows import chosen_lists
from maskdsl.runtime.backends.native.library import library
from maskdsl.runtime.backends.native.native_calls import (
    blank_like,
    blank_lse,
    filled_functions,
    forward,
    has_biases,
    native_functions,
    query_values,
    set_query_values,
    structure_of,
    structure_of_choices,
)
from maskdsl.runtime.backends.native.pair_words import lists_of_call
from maskdsl.runtime.backends.native.panel_lists import PanelGrid
from maskdsl.runtime.backends.native.partial_calls import attend_some, choices, chooses
from maskdsl.runtime.backends.native.structures import LANES, LARGEST_ROW, TYPES, CallStructure, with_dims_together
from maskdsl.runtime.backends.protocol import Backend
from maskdsl.runtime.backends.schedule import gathering_blocks
from maskdsl.runtime.backends.tiled_backend import Tiled
from maskdsl.runtime.base.call import Attend, Gradients, KernelCall, Saved, TokenPositions
from maskdsl.runtime.base.call_cache import CallState, as_array
from maskdsl.runtime.base.permute import moved

_TILED = Tiled()


class Native(Backend):
    """The compiled kernel, on a CPU."""

    name = "native"
    in_layout = True
    permutes = True
    takes_some_queries = True
    lists_routes = True
    writes_output = True

    def emit(self, plan: KernelPlan) -> str:
        """The functions of pairs make masks and biases, and the tiled backend's compute what is left."""
        return emit_native(plan)

    def planned(self, plan: KernelPlan) -> KernelPlan:
        return clique_plan(plan, LANES)

    def tile(self, plan: KernelPlan) -> tuple[int, int]:
        """Rows of panels: see `codegen/native.c`."""
        return _tile(plan)

    def host_inputs(self, plan: KernelPlan) -> tuple[str, ...]:
        """None where queries are gathered by what they choose: rows of the kernel follow from the table."""
        return () if chooses(plan) else plan.tile_inputs

    def gathers_choices(self, plan: KernelPlan) -> bool:
        """Where relations are of positions but for the table."""
        return chooses(plan)

    def computes(self, plan: KernelPlan, q: Tensor, v: Tensor) -> bool:
        """Scores that it can compute, of the types that it takes."""
        has_form = plan.score_bias is not None or plan.score_terms is not None
        return has_form and q.device.type == "cpu" and q.dtype in TYPES

    def serves(self, plan: KernelPlan, q: Tensor, v: Tensor) -> bool:
        """Where it computes, and a compiler works."""
        return self.computes(plan, q, v) and library() is not None

    def runs_on_cpu(self) -> bool:
        return library() is not None

    def prepared(self, call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> Attend:
        native = _NativeCall.of(call, q, k, v)
        if native is None:
            return partial(_by_tiles, call)

        def attend(q: Tensor, k: Tensor, v: Tensor, out: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
            lse = blank_lse(q) if call.wants_lse else None
            result = forward(native.functions, CallStructure.from_buffer_copy(native.made), q, k, v, lse, out)
            return _by_tiles(call, q, k, v) if result is None else (result, lse)

        return attend

    def some_queries(
        self,
        call: KernelCall,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        positions: TokenPositions,
        target: Tensor | None = None,
    ) -> tuple[Tensor, Tensor] | None:
        return attend_some(call, q, k, v, positions, target)

    def backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
        """Recomputes scores row by row."""
        return self.prepared_backward(call, saved, wanted)(saved)

    def prepared_backward(self, call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Callable[[Saved], Gradients]:
        native = _NativeCall.of(call, saved.q, saved.k, saved.v, wanted)
        if native is None:
            return lambda saved: _gradients_by_tiles(call, saved, wanted)
        return partial(self._gradients, native, call, wanted)

    def _gradients(self, native: "_NativeCall", call: KernelCall, wanted: Sequence[str], saved: Saved) -> Gradients:
        made = CallStructure.from_buffer_copy(native.made)
        q, k, v, out, grad_out = saved.q, saved.k, saved.v, saved.out, saved.grad_out
        if not q.stride(3) == k.stride(3) == v.stride(3) == out.stride(3) == grad_out.stride(3) == 1:
            q, k, v, out, grad_out = map(with_dims_together, (q, k, v, out, grad_out))
        grad_q, grad_k, grad_v = map(blank_like, (q, k, v))
        made.set_tensors(q, k, v, out, grad_out, grad_q, grad_k, grad_v)
        lse, grad_lse = saved.lse.contiguous(), saved.grad_lse.contiguous()
        made.lse, made.grad_lse, made.threads = lse.data_ptr(), grad_lse.data_ptr(), torch.get_num_threads()
        terms, arrays = native.terms, native.arrays
        grads = None if terms is None or not wanted else terms.blank_gradients(arrays)
        if grads is not None:
            set_gradients(made, grads)
        if native.functions.maskdsl_backward(byref(made)):
            return _gradients_by_tiles(call, saved, wanted)
        if not wanted:
            return Gradients(grad_q, grad_k, grad_v, {})
        values = {} if terms is None or grads is None else terms.gradients(arrays, grads)
        of_queries = _of_query_values(native, call, saved, wanted)
        if of_queries is None:
            return _gradients_by_tiles(call, saved, wanted)
        for name, grad in of_queries.items():
            values[name] = values[name] + grad if name in values else grad
        zeros = {name: torch.zeros_like(call.values[name]) for name in wanted if name not in values}
        return Gradients(grad_q, grad_k, grad_v, values | zeros)


@dataclass(frozen=True, eq=False)
class _NativeCall:
    """The structure of a call without its tensors, and what it points to."""

    functions: Any
    made: CallStructure
    kept: Sequence[object]
    terms: CallTerms | None = None
    """What scores read beside products; None if they read nothing."""
    arrays: TermArrays = NOTHING

    @staticmethod
    def of(call: KernelCall, q: Tensor, k: Tensor, v: Tensor, wanted: Sequence[str] = ()) -> "_NativeCall | None":
        """A call without its tensors; None where biases are too many, or queries gather few keys."""
        if chooses(call.plan):
            return _NativeCall._choosing(call, q, k, v)
        text = None if call.plan.score_terms is None else native_of_terms(call.plan.score_terms)
        functions = native_functions() if text is None else native_functions() and filled_functions(text.text)
        if functions is None or _gathers_keys(call):
            return None
        (batch, heads), mask = q.shape[:2], call.plan.mask
        block = _tile(call.plan)
        key, keep = (block, batch, heads), call.state.keep
        grid = PanelGrid(*block, mask.queries.length, mask.keys.length)
        pairs = keep(("pairs", key), lambda: CallPairs(call, batch, heads))
        lists = keep(
            ("panels", key),
            lambda: lists_of_call(pairs, grid, call.state.tiles(block), call.values, range(batch)),
        )
        terms, arrays, panels = None, NOTHING, None
        if has_biases(call):
            panels = keep(("biases", key), lambda: bias_panels(pairs, grid, lists))
            if panels is None:
                return None
        if panels is not None or text is not None:
            terms = CallTerms(call, pairs, panels, tuple(wanted))
            arrays = terms.arrays()
        made = structure_of(call, lists if panels is None else panels.lists, grid, q, k, v)
        set_terms(made, arrays)
        numbers = torch.tensor([] if text is None else text.numbers, dtype=torch.float32)
        made.numbers = numbers.data_ptr()
        kept = [lists, panels, numbers, *set_query_values(made, call, q, _query_positions(call))]
        return _NativeCall(functions, made, [*kept, *_set_positions(made, call)], terms, arrays)

    @staticmethod
    def _choosing(call: KernelCall, q: Tensor, k: Tensor, v: Tensor) -> "_NativeCall":
        """A call with a table of choices: see `chosen_rows`."""
        pairs = call.plan.chosen_pairs
        assert pairs is not None
        tiles = call.state.keep("choices", lambda: choice_tiles(pairs))
        chosen = chosen_lists(tiles, choices(call, pairs), q.shape[1], k.shape[1])
        made = structure_of_choices(call, chosen, tiles.grid, q, k, v)
        return _NativeCall(native_functions(), made, [chosen, *set_query_values(made, call, q, _query_positions(call))])


def _tile(plan: KernelPlan) -> tuple[int, int]:
    """Queries of a row and keys of a tile: a panel, or the block of a clique, which panels do not cross."""
    width = plan.key_block
    return min(plan.query_block, LARGEST_ROW), LANES if width % LANES == 0 else width


def _gathers_keys(call: KernelCall) -> bool:
    """Whether queries have few keys of their own, which lists give: tiles of any size hold mostly others."""
    if not any(each.sparse for each in call.plan.mask.inputs):
        return False

    def gathers() -> bool:
        block_map, pairs = call.state.tiles_with_pairs((call.plan.query_block, call.plan.key_block))
        listed = zip(pairs, block_map.head_classes, strict=True)
        return any(each is not None and gathering_blocks(each, tiles, block_map).any() for each, tiles in listed)

    return call.state.keep("gathers", gathers)


def _with_tables(call: KernelCall) -> KernelCall:
    """A call whose tiles follow from all that it reads."""
    if not chooses(call.plan):
        return call
    arrays = {name: as_array(call.inputs[name]) for name in call.plan.tile_inputs}
    return replace(call, state=CallState(call.plan, arrays, len(next(iter(arrays.values())))))


def _set_positions(made: CallStructure, call: KernelCall) -> list[Tensor]:
    """Sets the orders of tokens that come as declared."""
    tables = []
    for name, positions in zip(("query_at", "key_at"), call.layout, strict=True):
        if call.permutes and positions is not None:
            table = call.state.keep(("int32", name), partial(positions.to, torch.int32))
            setattr(made, name, table.data_ptr())
            for axis, side in enumerate(("batch", "head")):
                setattr(made, f"{name}_{side}", table.stride(axis) if table.shape[axis] > 1 else 0)
            tables.append(table)
    return tables


def _query_positions(call: KernelCall) -> Tensor | None:
    """The declared positions of queries in the order of q; None where they lie as declared."""
    return None if call.permutes else call.layout[0]


def _of_query_values(
    native: _NativeCall, call: KernelCall, saved: Saved, wanted: Sequence[str]
) -> dict[str, Tensor] | None:
    """The gradients of the wanted values through sinks and the factor of outputs; None if one is not finite."""
    count, positions = len(call.plan.mask.sinks), _query_positions(call)
    values = query_values(call, saved.q, positions)
    if not values or not wanted:
        return {}
    dots = (saved.grad_out.float() * saved.out).masked_fill(saved.out == 0, 0).sum(dim=-1)
    delta, empty = dots - saved.grad_lse, saved.lse == -torch.inf
    grads = [((each - saved.lse).exp() * -delta).masked_fill(empty, 0) for each in values[:count]]
    if call.plan.mask.factor is not None:
        factor = _factor_gradient(native, saved, values[-1], dots)
        if factor is None:
            return None
        grads.append(factor)
    named: dict[str, Tensor] = call.module.query_gradients(saved.q, call.values, positions, wanted, grads)
    return named


def _factor_gradient(native: _NativeCall, saved: Saved, factor: Tensor, dots: Tensor) -> Tensor | None:
    """The gradient of the factors of outputs, from rowsum(out * grad_out), in which they are."""
    size, most = factor.abs(), 2.0**6 if saved.q.dtype == torch.float16 else 2.0**60
    if bool(((size >= 1 / most) & (size <= most)).all()):
        return dots / factor
    made = CallStructure.from_buffer_copy(native.made)
    made.factor = None
    out = forward(native.functions, made, saved.q, saved.k, saved.v, None)  # the quotient would need lost digits
    return None if out is None else (saved.grad_out.float() * out).masked_fill(out == 0, 0).sum(dim=-1)


def _by_tiles(
    call: KernelCall, q: Tensor, k: Tensor, v: Tensor, out: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """The results of the tiled backend, in no memory that is given."""
    queries, keys = call.state.moves(q.device) if call.permutes else (None, None)
    q, k, v = moved(q, queries), moved(k, keys), moved(v, keys)
    result, lse = _TILED.prepared(_with_tables(call), q, k, v)(q, k, v)
    back = queries and queries.reverse
    return moved(result, back), None if lse is None else moved(lse.unsqueeze(-1), back).squeeze(-1)


def _gradients_by_tiles(call: KernelCall, saved: Saved, wanted: Sequence[str]) -> Gradients:
    queries, keys = call.state.moves(saved.q.device) if call.permutes else (None, None)
    q, out, grad_out = (moved(x, queries) for x in (saved.q, saved.out, saved.grad_out))
    lse, grad_lse = (moved(x.unsqueeze(-1), queries).squeeze(-1) for x in (saved.lse, saved.grad_lse))
    tensors = Saved(q, moved(saved.k, keys), moved(saved.v, keys), out, lse, grad_out, grad_lse)
    grads = _TILED.backward(_with_tables(call), tensors, wanted)
    back = queries and queries.reverse, keys and keys.reverse
    return Gradients(moved(grads.q, back[0]), moved(grads.k, back[1]), moved(grads.v, back[1]), grads.values)

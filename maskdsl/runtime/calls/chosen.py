"""Attention of some queries to some keys, at any positions: the operator `maskdsl::chosen`."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from maskdsl.ir.expressions import Side
from maskdsl.ir.rewrites.chunk import Chosen
from maskdsl.runtime.base.input_tensors import as_given
from maskdsl.runtime.base.token_values import token_values
from maskdsl.runtime.compiled.compiled_mask import Bound, DerivedMask, find
from maskdsl.runtime.decode.decode_call import attend_derived
from maskdsl.runtime.torch_ops.gather_ops import Attend, define


def attend_chosen(
    handle: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    query_positions: Tensor,
    key_positions: Tensor,
    first: int = 0,
) -> tuple[Tensor, Tensor]:
    """The output [batch, heads, queries, dim] and the log-sum-exp of tokens at these declared positions, int64 each.

    Heads are those of the mask from `first` on.
    `inputs` are those of a whole call, in the mask's order. Tokens stay where they are: neighbours of a tile should be
    neighbours in the pattern's own order.
    """
    out, lse = _CHOSEN(q, k, v, inputs, [query_positions, key_positions], first, handle)
    return out, lse


def _chosen(
    attend: Attend,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    inputs: Sequence[Tensor],
    positions: Sequence[Tensor | None],
    first: int | None,
    handle: str,
) -> tuple[Tensor, Tensor]:
    """The `Gather` of `maskdsl::chosen`; where others have the size of a page, there is the first head."""
    query_positions, key_positions = positions
    assert query_positions is not None and key_positions is not None and first is not None
    compiled = find(handle)
    assert isinstance(compiled, Bound)
    compiled = compiled.for_given_routes
    derived = compiled.derived(Chosen, q.shape[2], k.shape[2], first, q.shape[1])
    values = dict(zip((each.name for each in compiled.plan.mask.inputs), inputs, strict=True))
    values |= _values_at(derived, values, {Side.QUERY: query_positions, Side.KEY: key_positions}, len(q))
    return attend_derived(attend, derived, q, k, v, values)


def _values_at(
    derived: DerivedMask, given: Mapping[str, Tensor], positions: Mapping[Side, Tensor], batch: int
) -> dict[str, Tensor]:
    """The inputs of the derived mask that hold per-token values, by name. Gradients flow back to the given inputs."""
    values, chosen = {}, derived.gathered
    assert isinstance(chosen, Chosen)
    for value in chosen.values:
        at = positions[value.leaf.side]
        whole = token_values(chosen, value, given, batch, at.device, derived.kept)
        here = whole if whole.shape[1] == 1 else whole[:, chosen.first : chosen.first + chosen.count]
        values[value.declared.name] = as_given(value.declared, here[..., at])
    return values


_CHOSEN = define("chosen", _chosen)

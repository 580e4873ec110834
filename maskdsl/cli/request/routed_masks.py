"""Masks with everything that decides their pairs: inputs, and what routes select or, without q and k, may select."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskdsl.analysis.counts.guarantees import Guarantee, guarantee
from maskdsl.analysis.counts.selected_pairs import Selection, selections
from maskdsl.analysis.indices.given_reads import check_layers, check_reads
from maskdsl.analysis.tiles.head_classes import ALL, Region
from maskdsl.api import Mask
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.errors.commands.tensors import OtherHeads, TooManyScores
from maskdsl.base.records import dataclass
from maskdsl.cli.consoles import note
from maskdsl.cli.request.masks import SYNTHETIC_SEED, Inputs, complete, complete_all, in_pictures, read_arrays
from maskdsl.cli.request.tensor_files import read_tensors
from maskdsl.ir.declared.inputs import DimensionKind
from maskdsl.ir.facts.route_candidates import least, most, selects, unscored
from maskdsl.ir.facts.trace import tile_trace
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.inputs import batch_entries, branch_inputs, input_arrays, relation_inputs
from maskdsl.ir.meaning.nan_scores import nan_scores
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.vectors import blank_vectors, check_vectors, reads_vectors
from maskdsl.ir.routes import Route
from maskdsl.ir.stack import StackIR

if TYPE_CHECKING:
    from maskdsl.cli.request.rank_options import RankOptions
    from maskdsl.distributed.shard_plan import RankPlan
    from maskdsl.view.rank_cells import RankColours

Array = NDArray[Any]
Arrays = Mapping[str, Array]

_RANDOM_DIM = 64
_VECTORS = ["q", "k"]
_CANDIDATES = (
    "routes select in the queries and keys of a call: these are all candidates; --random SEED, --tensors"
    " FILE.safetensors, or --input q=q.npy --input k=k.npy, shows a selection"
)
_MOST_SCORES = 1 << 25
"""The most pairs of groups that a route may score in one head."""


@dataclass(frozen=True, eq=False)
class ResolvedMasks:
    """Masks of one pattern in several orders, with all inputs that decide their tiles."""

    masks: tuple[Mask, ...]
    inputs: Arrays
    least: tuple[Mask, ...] = ()
    """If `masks` have all candidates: the same masks with only the pairs that attend in every selection."""
    guarantee: Guarantee | None = None
    """If `masks` have all candidates: what holds for every selection."""
    selections: tuple[Selection, ...] = ()
    """Otherwise, what routes selected."""


def resolve_masks(
    masks: Sequence[Mask], given: Sequence[str], seed: int | None, tensors: str | None = None, by_line: bool = False
) -> ResolvedMasks:
    """Masks of one pattern in several orders, with their inputs. Prints which inputs were made up.

    Routes select in `q` and `k`, given as inputs or in the file `tensors`, or random ones by `seed`. Without any of
    these, the masks have all candidates. `by_line` is that of `relation_inputs`.
    """
    arrays = read_arrays(given)
    mask = masks[0].ir
    if tensors is not None:
        arrays = _from_file([each.ir for each in masks], arrays, tensors)
    needed = _inputs_of(masks, arrays, by_line)
    vectors = {name: arrays.pop(name) for name in _VECTORS if mask.routed and name in arrays}
    q = vectors.get("q")
    random = seed is not None and not vectors and selects(mask)
    given_whole = needed.isdisjoint({each.name for each in mask.given} - arrays.keys())
    blank = selects(mask) and not random and not vectors and given_whole
    blank = blank and not reads_vectors(mask, needed - arrays.keys())
    if selects(mask) and not (random or blank or len(vectors) == len(_VECTORS)):
        needed = _inputs_of([replace(each, ir=unscored(each.ir)) for each in masks], arrays, by_line)
    inputs = complete(mask, arrays, needed, dim=_RANDOM_DIM if q is None else q.shape[-1])
    input_arrays(mask, inputs.arrays, ())  # raises if they do not fit
    check_reads(mask, arrays, batch_entries(mask, arrays))
    tell(inputs)
    if random and seed is not None:
        vectors = _tell_random(mask, seed)
    if blank:
        vectors = blank_vectors(mask, inputs.arrays)
    resolved = _selected(masks, inputs.arrays, vectors, needed)
    _tell_heads(resolved.masks[0].ir)
    return resolved


def _tell_heads(mask: MaskIR) -> None:
    """Says that one head is not all, where they may differ."""
    if mask.heads == 1 and DimensionKind.HEADS in tile_trace(mask).varies(mask):
        note(f"`{mask.name}` differs from head to head, and this is one head; --heads says how many there are")


@dataclass(frozen=True, eq=False)
class ResolvedStack:
    """A stack, with all inputs that decide the tiles of its layers."""

    stack: StackIR
    inputs: Arrays
    open: bool
    """Whether its layers have all candidates, as nothing was selected."""


def resolve_stack(stack: StackIR, given: Sequence[str], seed: int | None, tensors: str | None = None) -> ResolvedStack:
    """As `resolve_masks`, for a stack. All layers share one `q` and one `k`. Prints which inputs were made up."""
    arrays = read_arrays(given)
    if tensors is not None:
        arrays = _from_file(stack.different, arrays, tensors)
    routed = any(selects(mask) for mask in stack.different)
    vectors = {name: arrays.pop(name) for name in _VECTORS if routed and name in arrays}
    if seed is not None and not vectors and routed:
        vectors = _tell_random(stack.different[0], seed)
    is_open = routed and not vectors
    if is_open:
        stack = replace(stack, different=tuple(map(most, stack.different)))
    inputs = complete_all(stack, arrays)
    check_layers(stack.different, arrays)
    tell(inputs)
    if is_open:
        note(_CANDIDATES)
    for mask in stack.different:
        _check_sizes(mask, relation_inputs(mask, arrays))
        if len(vectors) == len(_VECTORS):
            _check(mask, vectors["q"], vectors["k"])
    return ResolvedStack(stack, {**inputs.arrays, **vectors}, is_open)


def _selected(masks: Sequence[Mask], inputs: Arrays, vectors: Arrays, needed: frozenset[str]) -> ResolvedMasks:
    """The masks with what routes select in q and k, or with all candidates if q and k are not both given."""
    mask = masks[0].ir
    q, k = (vectors.get(name) for name in _VECTORS)
    if q is not None and k is not None:
        _check(mask, q, k)
        _check_sizes(mask, needed)
    routed = with_routes(mask, inputs, q, k, needed)
    if not selects(mask):
        return ResolvedMasks(tuple(masks), routed)
    made = {each.name for each in mask.inputs if each.source is not None}
    if needed - made <= routed.keys():
        if q is not None and k is not None:
            _tell_nan(mask, routed, q, k)
        return ResolvedMasks(tuple(masks), routed, selections=selections(mask, routed))
    note(_CANDIDATES)
    widest, narrowest = (tuple(replace(each, ir=bound(each.ir)) for each in masks) for bound in (most, least))
    return ResolvedMasks(widest, routed, narrowest, guarantee(mask, routed))


def _inputs_of(masks: Sequence[Mask], arrays: Arrays, by_line: bool) -> frozenset[str]:
    """The names of inputs and routes that decide pairs and orders."""
    return frozenset[str]().union(*(relation_inputs(mask.ir, arrays, by_line) for mask in masks))


def _from_file(masks: Sequence[MaskIR], arrays: Arrays, file: str) -> dict[str, Array]:
    """The arrays, and those of a safetensors file, which must have everything else that is needed."""
    names: dict[str, None] = {}
    required: dict[str, None] = {}
    for mask in masks:
        needed = relation_inputs(mask, arrays) - arrays.keys()
        names |= dict.fromkeys([*_VECTORS * selects(mask), *(each.name for each in mask.inputs)])
        required |= dict.fromkeys(_VECTORS * reads_vectors(mask, needed))
        required |= dict.fromkeys(each.name for each in mask.given if each.name in needed)
    missing = [[name for name in wanted if name not in arrays] for wanted in (names, required)]
    return {**read_tensors(file, *missing), **arrays}


def _check(mask: MaskIR, q: Array, k: Array) -> None:
    """Raises `AttnError` if q and k do not fit the mask."""
    if q.ndim == 4 and q.shape[1] != mask.heads:
        raise AttnError(OtherHeads(name="q", found=q.shape[1], expected=mask.heads))
    check_vectors(mask, q, k)


def _check_sizes(mask: MaskIR, names: Container[str]) -> None:
    """Raises `AttnError` (E555) if scoring the groups would take minutes."""
    for each in mask.routed:
        if isinstance(each, Route) and each.name in names:
            queries, keys = each.queries.count, each.keys.count
            if queries * keys > _MOST_SCORES:
                limit = _MOST_SCORES
                raise AttnError(TooManyScores(route=each.name, queries=queries, keys=keys, limit=limit, span=each.span))


def _tell_nan(mask: MaskIR, routed: Arrays, q: Array, k: Array) -> None:
    for each in nan_scores(mask, routed, q, k):
        note(
            f"the score of `{each.route}` is NaN {each.count} times in batch entry {each.batch}, head {each.head},"
            f" first for query group {each.query} and key group {each.key}: never selected"
        )
        return


def _tell_random(mask: MaskIR, seed: int) -> dict[str, NDArray[Any]]:
    """Normally distributed queries and keys of one batch entry, and a note about them."""
    note(f"selected by random queries and keys (seed {seed}, head dimension {_RANDOM_DIM})")
    random = np.random.default_rng(seed)
    key_heads = mask.heads if mask.whole is None else mask.whole.key_count or mask.heads
    sizes = {"q": (mask.heads, mask.queries.given_length), "k": (key_heads, mask.keys.given_length)}
    return {name: random.normal(size=(1, *size, _RANDOM_DIM)) for name, size in sizes.items()}


def tell(inputs: Inputs) -> None:
    """Prints which inputs were made up."""
    if inputs.made:
        names = ", ".join(f"`{name}`" for name in inputs.made)
        note(f"made-up values for {names} (seed {SYNTHETIC_SEED}); --input gives real ones")


@dataclass(frozen=True, eq=False)
class DrawnMask:
    """A mask of a picture."""

    mask: Mask
    inputs: Arrays
    plan: RankPlan | None = None
    layer: int = 0
    """Which of the plan's layers the mask is."""

    def pictured(self) -> Iterator[DrawnMask]:
        """Each branch of a pattern with few branches; else the mask itself."""
        for each in in_pictures([self.mask]):
            inputs = branch_inputs(each.ir, self.inputs) if each.branch else self.inputs
            yield DrawnMask(each, inputs, self.plan, self.layer)

    def colours(self, region: Region = ALL) -> RankColours | None:
        """The ranks by which cells of a region are coloured."""
        if self.plan is None:
            return None
        from maskdsl.view.rank_cells import RankColours  # start-up time

        return RankColours.of(self.plan, self.layer, self.mask.ir, self.inputs, region)


def drawn_masks(masks: Sequence[Mask], inputs: Arrays, planned: RankOptions | None) -> list[DrawnMask]:
    """The masks of a pattern in several orders, or its branches, with a plan of each order."""
    plans = [None if planned is None else planned.of_mask(mask, inputs)[0] for mask in masks]
    whole = [DrawnMask(mask, inputs, plan) for mask, plan in zip(masks, plans, strict=True)]
    return [branch for each in whole for branch in each.pictured()]

"""`Mask`: a pattern at values of its parameters, with its tiles, its statistics and its compilation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, NoReturn, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskdsl.analysis.cost.devices import find_device
from maskdsl.analysis.orders.binding import bind_mask
from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.api.engine_encodings import EngineEncodings
from maskdsl.api.given_inputs import arrays_of, decided, selected
from maskdsl.base.arguments import (
    BATCH,
    BLOCK,
    BLOCKS,
    COUNT,
    DTYPE,
    FLAG,
    HEAD_DIM,
    INDEX,
    LINK,
    POSITIVE,
    RANKS,
    TENSORS,
    TEXT,
    BackendName,
    DtypeName,
    TensorLayout,
    integer,
    optional,
    takes,
)
from maskdsl.base.diagnostics import AttnError
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls.arguments import NotCompiled, OutsideMap
from maskdsl.base.errors.language.composition import ValueClash, WrongOperand
from maskdsl.base.records import dataclass
from maskdsl.ir.declared.inputs import Input
from maskdsl.ir.facts.route_candidates import unscored
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import MaskIR
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.meaning.inputs import input_arrays, relation_inputs
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.routed_inputs import find_in_mask
from maskdsl.ir.routes import OfInputs
from maskdsl.syntax.compose import ComposedPattern, complement, composed, intersection, scaled, soft_capped, union

if TYPE_CHECKING:
    from maskdsl.analysis.cost.predict import Prediction
    from maskdsl.analysis.counts.guarantees import Guarantee
    from maskdsl.analysis.counts.selected_pairs import Selection
    from maskdsl.analysis.counts.stats import Stats
    from maskdsl.analysis.orders.best import BestOrder
    from maskdsl.analysis.reach.receptive_field import Field
    from maskdsl.analysis.reasons.explanation import Explanation
    from maskdsl.api.patterns import Pattern
    from maskdsl.api.sharded_layers import ShardPlan
    from maskdsl.distributed.homes import ShardScheme
    from maskdsl.runtime.attention import Attention


@dataclass(frozen=True)
class Mask(EngineEncodings, Displayed):
    """A pattern at values of its parameters: which pairs attend, what that costs, and its compilation.

    Methods take the pattern's inputs by name as arrays (NumPy, nested lists, CPU tensors) of their declared shapes. For
    patterns with routes, `q` [batch, heads, queries, dim] and `k` [batch, key heads, keys, dim] are inputs as well;
    instead of them each route's selection may be given by its name, bool [batch, heads, query groups, key groups].
    Raises `AttnError` for inputs that are missing, unknown or do not fit their declaration.
    """

    pattern: Pattern
    """The pattern that was bound."""
    ir: MaskIR
    """The compiler's representation of the mask. It may change in the next version."""
    order: str | None = field(default=None, compare=False, repr=False)
    """The order that `bind` or `with_order` was given; None for that of the pattern."""

    @property
    def name(self) -> str:
        """The pattern's name."""
        return self.ir.name

    @property
    def query_length(self) -> int:
        """The number of queries, in tokens."""
        return self.ir.queries.length

    @property
    def given_query_length(self) -> int:
        """The number of queries that a call gives: `query_length` without pooled queries."""
        return self.ir.queries.given_length

    @property
    def key_length(self) -> int:
        """The number of keys, in tokens, pooled ones included."""
        return self.ir.keys.length

    @property
    def given_key_length(self) -> int:
        """The number of keys that a call gives: `key_length` without pooled keys."""
        return self.ir.keys.given_length

    @property
    def heads(self) -> int:
        """The number of query heads."""
        return self.ir.heads

    @property
    def branch(self) -> str:
        """The name of the branch that this mask is, such as `local` or `window[3]`; empty for a whole pattern."""
        return self.ir.branch

    @property
    def branches(self) -> tuple[Mask, ...]:
        """The branches as masks of their own, in the order of the text; none of a pattern without branches."""
        return tuple(Mask(self.pattern, each, self.order) for each in self.ir.branches)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The inputs that a call gives, in the order of declaration."""
        return self.ir.given

    @property
    def _whole(self) -> MaskIR:
        """`ir` for all heads of the attention that these heads are of."""
        heads = self.ir.whole
        return self.ir if heads is None or heads.are_all else self._bound(heads.all)

    @takes(head=INDEX, batch=INDEX)
    def dense(self, head: int = 0, batch: int = 0, **inputs: ArrayLike) -> NDArray[np.bool_]:
        """Which pairs attend, bool [queries, keys], in declared order. Takes n x n memory: for inspection and tests."""
        if head >= self.heads:
            raise AttnError(OutsideMap(what="head", number=head, last=self.heads - 1))
        given = input_arrays(self.ir, selected(self.ir, inputs), relation_inputs(self.ir), batch + 1)
        return dense(self.ir, head=head, batch=batch, inputs=given)

    @takes(block=BLOCK)
    def tiles(self, block: int | tuple[int, int] = (128, 128), **inputs: ArrayLike) -> BlockMap:
        """The exact class (empty, partial, full) of every tile of `block` (queries, keys) tokens, in laid-out order."""
        return tiles(self.ir, block=cast("tuple[int, int]", block), inputs=decided(self.ir, inputs))

    @takes(block=BLOCK)
    def stats(self, block: int | tuple[int, int] = (128, 128), **inputs: ArrayLike) -> Stats:
        """Exact statistics at tiles of `block` tokens: density, block density, waste, FLOPs, bytes, speed-up bound."""
        from maskdsl.analysis.counts.stats import stats  # start-up time

        return stats(self.ir, block=cast("tuple[int, int]", block), inputs=decided(self.ir, inputs))

    @takes(query=integer(), key=integer(), head=INDEX, batch=INDEX)
    def explain(self, query: int, key: int, /, head: int = 0, batch: int = 0, **inputs: ArrayLike) -> Explanation:
        """Why the query and the key at these declared positions attend or not: `print` it, or show it in a notebook.

        Each condition of each line is there as written, whether it holds, and the keys that this query attends by it.
        """
        from maskdsl.analysis.reasons.pair_reasons import explain_pair  # start-up time

        for what, number, count in (("query", query, self.query_length), ("key", key, self.key_length)):
            if not 0 <= number < count:
                raise AttnError(OutsideMap(what=what, number=number, last=count - 1))
        if head >= self.heads:
            raise AttnError(OutsideMap(what="head", number=head, last=self.heads - 1))
        arrays = find_in_mask(self.ir, arrays_of(self.ir, inputs), by_line=True)
        given = input_arrays(self.ir, arrays, relation_inputs(self.ir, by_line=True), batch + 1)
        return explain_pair(self.pattern.program, self.ir, query, key, head, batch, given)

    def guarantee(self, **inputs: ArrayLike) -> Guarantee:
        """Bounds on the keys per query and on the density, for any selection that the routes can make.

        Reads only inputs that decide the candidates of routes and how many they select. The lower bounds hold while
        scores are finite.
        """
        from maskdsl.analysis.counts.guarantees import guarantee  # start-up time

        arrays, wanted = arrays_of(self.ir, inputs), relation_inputs(unscored(self.ir))
        needed = wanted & {each.name for each in self.ir.given}
        return guarantee(self.ir, with_routes(self.ir, input_arrays(self.ir, arrays, needed), wanted=wanted))

    def selections(self, **inputs: ArrayLike) -> tuple[Selection, ...]:
        """Statistics of what each route selects in `q` and `k`: number of groups, their load, overlap between heads."""
        from maskdsl.analysis.counts.selected_pairs import selections  # start-up time

        wanted = [each.name for each in self.ir.routed if not isinstance(each, OfInputs)]
        return selections(self.ir, input_arrays(self.ir, selected(self.ir, inputs), wanted))

    @takes(gpu=TEXT, head_dim=HEAD_DIM, batch=BATCH)
    def predict(self, gpu: str, *, head_dim: int = 64, batch: int = 1, **inputs: ArrayLike) -> Prediction:
        """Predicted seconds of the forward and backward kernels, from exact tiles and the GPU's datasheet.

        Of A100, H100, H200, B200 and MI300X, for two-byte numbers. Nothing is measured: the model is
        `analysis/cost/model.py`.
        """
        from maskdsl.analysis.cost.predict import predict_mask  # start-up time

        return predict_mask(self.ir, find_device(gpu), decided(self.ir, inputs), head_dim=head_dim, batch=batch)

    @takes(block=BLOCKS, gpu=TEXT, head_dim=HEAD_DIM)
    def best_order(
        self,
        block: int | tuple[int, int] | Sequence[tuple[int, int]] = (128, 128),
        *,
        gpu: str = "H100",
        head_dim: int = 64,
        **inputs: ArrayLike,
    ) -> BestOrder:
        """The token order with the least predicted time on `gpu`, and the table of all orders compared.

        `block` is the tile size (queries, keys) in tokens, or several sizes of which the best counts. Apply the result
        by `with_order(result.order)`.
        """
        from maskdsl.analysis.orders.best import best_order  # start-up time

        blocks = cast("list[tuple[int, int]]", block)
        return best_order(self.ir, decided(self.ir, inputs), blocks, find_device(gpu), head_dim)

    @takes(ranks=RANKS, per_node=COUNT, head_dim=HEAD_DIM, dtype=DTYPE, link=LINK, block=COUNT)
    def shard(
        self,
        ranks: int,
        /,
        *,
        per_node: int = 8,
        head_dim: int = 128,
        dtype: DtypeName = "bfloat16",
        link: tuple[float, float] = (50.0, 400.0),
        block: int = 128,
        scheme: ShardScheme | None = None,
        **inputs: ArrayLike,
    ) -> ShardPlan:
        """The cheapest plan for `ranks` processes: the tokens and heads of each, by exact prices of every scheme.

        `per_node` processes are neighbours. `link` is gigabytes a second that a process receives from other nodes, and
        from its own. Blocks of `block` tokens stay together. With the `scheme` of another plan nothing is searched: so
        the inputs of a next step are planned for, in milliseconds with larger blocks. Of routes that are not given, all
        candidates count as selected. Where the mask is of some heads of a whole, tokens are where all heads want them,
        so that processes with other heads hold the same; figures are of these heads.
        """
        from maskdsl.api.sharded_layers import ShardArguments, shard_mask  # start-up time

        given = ShardArguments(ranks, per_node, head_dim, dtype, link, block, scheme)
        return shard_mask(self.ir, inputs, given, self._whole)

    @takes(token=optional(integer()), layers=optional(integer()))
    def field(self, token: int | None = None, layers: int | None = None, **inputs: ArrayLike) -> Field:
        """How far information travels through `layers` repetitions of this mask: from `token`, and between all tokens.

        `token` is a position, by default the middle one; `layers` is by default as many as it takes.
        """
        from maskdsl.analysis.reach.receptive_field import field  # start-up time

        return field(self.ir, token=token, layers=layers, inputs=decided(self.ir, inputs))

    @takes(order=TEXT)
    def with_order(self, order: str) -> Mask:
        """The same mask with another token order, as `Pattern.bind` takes it."""
        return Mask(self.pattern, self._bound(self.ir.whole or Heads(self.heads), order), order)

    def _bound(self, heads: Heads, order: str | None = None) -> MaskIR:
        """The mask at the same values, or its branch, for other heads or with another order."""
        program, name, parameters = self.pattern.program, self.name, dict(self.ir.parameters)
        mask = bind_mask(program, name, parameters, heads, order)
        return next((each for each in mask.branches if each.branch == self.branch), mask)

    @takes(backend=TEXT, refine=FLAG, tune=FLAG, layout=TENSORS)
    def compile(
        self,
        backend: BackendName = "auto",
        *,
        refine: bool = False,
        tune: bool = False,
        layout: TensorLayout = "bhnd",
    ) -> Attention:
        """The attention of this mask, a torch module: `attention(q, k, v, **inputs)`.

        Backends: `"triton"`, `"native"`, `"tiled"` and `"reference"`; `"auto"` takes `triton` for tensors on a GPU,
        `native` for those on a CPU where a C compiler works, else `tiled`. What `native` has no kernel for, `tiled`
        computes in its place: float64, `weight`, `normalize`, and scores other than biases and soft caps.
        Where inputs decide the tiles, kernels find them on the GPU, where some full or empty tiles may count as
        partial; with `refine` the host finds exact tiles, and waits for the GPU. With `tune` the first call measures a
        few tile choices on its GPU and caches the fastest on disk. With `layout="bnhd"` tensors and results are [batch,
        tokens, heads, dim], or have the axes of a grid: [batch, h, w, heads, dim]; nothing is copied for that. Raises
        `AttnError` for an unknown backend.
        """
        from maskdsl.analysis.orders.pattern_text import PatternText, texts_of  # start-up time
        from maskdsl.runtime.compile import compile_mask  # imports torch: start-up time

        texts = texts_of(self.pattern.program)
        text = PatternText(texts, self.name, self.ir.parameters, self.order, self.branch)
        return compile_mask(self.ir, backend=backend, refine=refine, tune=tune, layout=layout, text=text)

    def __and__(self, other: Mask) -> Mask:
        """The mask that attends what both attend: that of `Pattern.__and__`, at the values of both.

        Raises `AttnError` for what patterns refuse, and if heads or parameters of one name have different values. An
        order that `with_order` or `bind` gave is left out.
        """
        return self._composed(intersection, other)

    def __or__(self, other: Mask) -> Mask:
        """The mask that attends what either attends. As for `&`, but both must change scores alike."""
        return self._composed(union, other)

    def __invert__(self) -> Mask:
        """The mask that attends what this one does not. Scores change as they do in this one."""
        return self._composed(complement)

    @takes(cap=POSITIVE)
    def soft_capped(self, cap: float) -> Mask:
        """The mask with one more line, `score cap * tanh(s / cap)`: that of `Pattern.soft_capped`, at these values.

        An order that `with_order` or `bind` gave is left out. Raises `AttnError` unless `cap` is a positive number.
        """
        return self._composed(lambda operand: soft_capped(operand, cap))

    @takes(scale=POSITIVE)
    def scaled(self, scale: float) -> Mask:
        """The mask with one more line, `scale scale`: that of `Pattern.scaled`, at these values.

        An order that `with_order` or `bind` gave is left out. Raises `AttnError` as `Pattern.scaled` does.
        """
        return self._composed(lambda operand: scaled(operand, scale))

    @property
    def _operand(self) -> ComposedPattern:
        return ComposedPattern(self.pattern.program, self.pattern.declaration, dict(self.ir.parameters))

    def _composed(self, how: Callable[..., str], *others: Mask) -> Mask:
        """The mask of a pattern that is composed of this one and others, for the same heads."""
        whole = self.ir.whole or self.heads
        for each in others:
            if not isinstance(each, Mask):
                raise AttnError(WrongOperand(found=type(each).__name__, expected="mask"))
            if (each.ir.whole or each.heads) != whole:
                values = f"{self.heads} in `{self.name}` and {each.heads} in `{each.name}`"
                raise AttnError(ValueClash(what="the heads are", values=values))
        whole_pattern = composed(how, self._operand, *(each._operand for each in others))
        pattern = replace(self.pattern, program=whole_pattern.program, declaration=whole_pattern.declaration)
        return Mask(pattern, bind_mask(pattern.program, pattern.name, {}, whole))

    def __call__(self, *tensors: object, **inputs: object) -> NoReturn:
        """Raises `AttnError`: a mask has to be compiled before it can be called."""
        raise AttnError(NotCompiled(kind="mask", compiled="mask.compile()"))

    def _shown_(self) -> tuple[object, ...]:
        return (self.ir,)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.ir.parameters)
        branch = f", branch {self.branch!r}" if self.branch else ""
        return f"Mask({self.name}({values}){branch}, heads={self.heads}, {self.query_length} x {self.key_length})"

"""A pattern, and the mask that it is at values of its parameters: what it attends, and the way to kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskdsl.analysis.cost.devices import find_device
from maskdsl.analysis.cost.predict import Prediction, predict_mask
from maskdsl.analysis.counts.stats import Stats, stats
from maskdsl.analysis.indices.given_reads import check_reads
from maskdsl.analysis.orders import BestOrder, best_order, bind_mask
from maskdsl.analysis.tiles.block_map import BlockMap
from maskdsl.analysis.tiles.mask_tiles import tiles
from maskdsl.base.arguments import (
    BATCH,
    BLOCK,
    BLOCKS,
    FLAG,
    HEAD_DIM,
    HEADS,
    INDEX,
    TEXT,
    TEXTS,
    BackendName,
    integer,
    optional,
    takes,
)
from maskdsl.base.diagnostics import AttnError, warn
from maskdsl.base.display import Displayed
from maskdsl.base.errors.calls.arguments import NotCompiled, OutsideMap
from maskdsl.ir.facts.route_candidates import unscored
from maskdsl.ir.heads import Heads
from maskdsl.ir.mask import Input, MaskIR
from maskdsl.ir.meaning.evaluate import dense
from maskdsl.ir.meaning.inputs import batch_entries, input_arrays, relation_inputs
from maskdsl.ir.meaning.route_meaning import with_routes
from maskdsl.ir.meaning.routed_inputs import find_in_mask
from maskdsl.ir.routes import Rank
from maskdsl.syntax.program import Program
from maskdsl.syntax.tree import PatternDeclaration, StackDeclaration, Tuple

if TYPE_CHECKING:
    from maskdsl.analysis.counts.guarantees import Guarantee
    from maskdsl.analysis.counts.selected_pairs import Selection
    from maskdsl.analysis.reach.receptive_field import Field
    from maskdsl.runtime.attention import Attention, FollowingAttention


@dataclass(frozen=True)
class Pattern(Displayed):
    """A pattern whose parameters have no values yet."""

    program: Program
    """The file and all that it uses, as the compiler has it: may be another in the next version."""
    declaration: PatternDeclaration
    """The pattern in it, likewise."""

    @property
    def name(self) -> str:
        """As the file has it."""
        return self.declaration.name.id

    @property
    def doc(self) -> str:
        """The text of the `##` lines above it."""
        return self.declaration.doc

    @property
    def parameters(self) -> dict[str, str | None]:
        """Name to default as written; None for a parameter that must be given."""
        return parameter_texts(self.declaration)

    @takes(name=TEXT)
    def tuple_width(self, name: str) -> int | None:
        """How many entries the default of a parameter has; None if it is no tuple."""
        default = next((each.default for each in self.declaration.parameters if each.name.id == name), None)
        return len(default.items) if isinstance(default, Tuple) else None

    @takes(order=optional(TEXT), **HEADS)
    def bind(
        self,
        *,
        heads: int = 1,
        key_heads: int | None = None,
        first_head: int = 0,
        local_heads: int | None = None,
        order: str | None = None,
        **parameters: object,
    ) -> Mask:
        """The mask at these values of the parameters, for `heads` query heads.

        Where several processes share the heads of one attention, `heads` and `key_heads` are those of the whole:
        `head` in the pattern runs from `first_head` on for `local_heads` heads (all, if not given), and inputs have
        one entry for each head of the whole. q then has `local_heads` heads, and k and v
        `local_heads * key_heads / heads`, or 1 where several processes share a key head.

        `order` replaces the pattern's own order: `"declared"`, or the text behind the word `order`, such as
        `"image by hilbert(y, x)"`, several of them joined by `; `. Raises `AttnError` with everything that is wrong,
        and warns of what is odd (`AttnWarning`).
        """
        whole = Heads(heads, key_heads, first_head, local_heads)
        mask = Mask(self, bind_mask(self.program, self.name, parameters, whole, order))
        warn(mask.ir.cautions)
        return mask

    @takes(backend=TEXT, follow=TEXTS, order=optional(TEXT), refine=FLAG, tune=FLAG, **HEADS)
    def compile(
        self,
        backend: BackendName = "auto",
        *,
        heads: int = 1,
        key_heads: int | None = None,
        first_head: int = 0,
        local_heads: int | None = None,
        follow: str | tuple[str, ...] = "n",
        order: str | None = None,
        refine: bool = False,
        tune: bool = False,
        **parameters: object,
    ) -> FollowingAttention:
        """The callable for tensors of any length: `follow` names the parameter that is the number of tokens, or two
        that are those of queries and of keys. It binds once for each length; what `bind` would raise, a call raises.
        Heads are as `bind` takes them.
        """
        from maskdsl.runtime.compile import compile_following  # imports torch: start-up time

        names = cast("tuple[str, ...]", follow)
        whole = Heads(heads, key_heads, first_head, local_heads)
        options = whole, order, backend, refine, tune
        return compile_following(self.program, self.declaration, parameters, names, *options)

    def __call__(self, *tensors: object, **inputs: object) -> NoReturn:
        """Nothing: what computes is made by `bind` and `compile`. Raises `AttnError`."""
        raise AttnError(NotCompiled(kind="pattern", compiled="pattern.bind(...).compile()"))

    def _shown_(self) -> tuple[object, ...]:
        return self.program, self.declaration

    def __repr__(self) -> str:
        return f"Pattern({self.name}({', '.join(self.parameters)}))"


@dataclass(frozen=True)
class Mask(Displayed):
    """A pattern with all its lengths and parameters: what it attends, what that costs, and the way to kernels.

    Inputs are given by name as arrays (NumPy, nested lists, CPU tensors), with the shapes their declarations say. Where
    routes find pairs, `q` [batch, heads, queries, dim] and `k` [batch, key heads, keys, dim] are inputs as well, or
    what is found, by the name of the route: bool [batch, heads, query groups, key groups].
    """

    pattern: Pattern
    """What was bound."""
    ir: MaskIR
    """What it means, as the compiler has it: may be another in the next version."""

    @property
    def name(self) -> str:
        """The pattern's."""
        return self.ir.name

    @property
    def query_length(self) -> int:
        """Tokens of the sequence of queries."""
        return self.ir.queries.length

    @property
    def key_length(self) -> int:
        """Tokens of the sequence of keys, those among them that are pooled included."""
        return self.ir.keys.length

    @property
    def given_key_length(self) -> int:
        """How many keys a call gives: as many, but for spaces that are pooled from those given."""
        return self.ir.keys.given_length

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.ir.heads

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Those that a call gives; routes find others."""
        return self.ir.given

    @takes(head=INDEX, batch=INDEX)
    def dense(self, head: int = 0, batch: int = 0, **inputs: ArrayLike) -> NDArray[np.bool_]:
        """Bool array [queries, keys] in declared order: the meaning. Takes n x n memory; for looking and testing."""
        if head >= self.heads:
            raise AttnError(OutsideMap(what="head", number=head, last=self.heads - 1))
        given = input_arrays(self.ir, self._arrays(inputs), relation_inputs(self.ir))
        return dense(self.ir, head=head, batch=batch, inputs=given)

    @takes(block=BLOCK)
    def tiles(self, block: int | tuple[int, int] = (128, 128), **inputs: ArrayLike) -> BlockMap:
        """The exact class of every tile of `block` (queries, keys), in laid-out order, as runs."""
        return tiles(self.ir, block=cast("tuple[int, int]", block), inputs=self._decided(inputs))

    @takes(block=BLOCK)
    def stats(self, block: int | tuple[int, int] = (128, 128), **inputs: ArrayLike) -> Stats:
        """Density, block density, waste, FLOPs, bytes and the bound of the speed-up, all exact."""
        return stats(self.ir, block=cast("tuple[int, int]", block), inputs=self._decided(inputs))

    def guarantee(self, **inputs: ArrayLike) -> Guarantee:
        """Where routes select: bounds on the keys of a query and on the density, whatever they select.

        From the inputs that decide candidates and counts. The lower bounds hold while scores are finite.
        """
        from maskdsl.analysis.counts.guarantees import guarantee  # start-up time

        arrays, wanted = arrays_of(inputs), relation_inputs(unscored(self.ir))
        needed = wanted & {each.name for each in self.ir.given}
        return guarantee(self.ir, with_routes(self.ir, input_arrays(self.ir, arrays, needed), wanted=wanted))

    def selections(self, **inputs: ArrayLike) -> tuple[Selection, ...]:
        """What each route selects in `q` and `k`: how many groups, their load, and what heads have in common."""
        from maskdsl.analysis.counts.selected_pairs import selections  # start-up time

        wanted = [each.name for each in self.ir.routed if not isinstance(each, Rank)]
        return selections(self.ir, input_arrays(self.ir, self._arrays(inputs), wanted))

    @takes(gpu=TEXT, head_dim=HEAD_DIM, batch=BATCH)
    def predict(self, gpu: str, *, head_dim: int = 64, batch: int = 1, **inputs: ArrayLike) -> Prediction:
        """Seconds that kernels should take forward and backward, and why: from exact tiles and the GPU's datasheet.

        Of A100, H100, H200, B200 and MI300X, for two-byte numbers. Nothing is measured; `analysis/cost/model.py` says
        how.
        """
        return predict_mask(self.ir, find_device(gpu), self._decided(inputs), head_dim=head_dim, batch=batch)

    @takes(block=BLOCKS, gpu=TEXT, head_dim=HEAD_DIM)
    def best_order(
        self,
        block: int | tuple[int, int] | Sequence[tuple[int, int]] = (128, 128),
        *,
        gpu: str = "H100",
        head_dim: int = 64,
        **inputs: ArrayLike,
    ) -> BestOrder:
        """The order in which this should take the least time, and the table of all that were compared.

        With tiles of `block` (queries, keys), or the best of several sizes. `with_order(found.order)` lays it out.
        """
        blocks = cast("list[tuple[int, int]]", block)
        return best_order(self.ir, self._decided(inputs), blocks, find_device(gpu), head_dim)

    @takes(token=optional(integer()), layers=optional(integer()))
    def field(self, token: int | None = None, layers: int | None = None, **inputs: ArrayLike) -> Field:
        """How far information travels from a token (the middle one unless said) and between all tokens, through
        this layer again and again.
        """
        from maskdsl.analysis.reach.receptive_field import field  # start-up time

        return field(self.ir, token=token, layers=layers, inputs=self._decided(inputs))

    @takes(order=TEXT)
    def with_order(self, order: str) -> Mask:
        """The same mask in another layout; see `Pattern.bind`."""
        program, name, parameters = self.pattern.program, self.name, dict(self.ir.parameters)
        return Mask(self.pattern, bind_mask(program, name, parameters, self.ir.whole or self.heads, order))

    @takes(backend=TEXT, refine=FLAG, tune=FLAG)
    def compile(self, backend: BackendName = "auto", *, refine: bool = False, tune: bool = False) -> Attention:
        """The callable. Backends: `"triton"`, `"tiled"`, `"reference"`; `"auto"` goes by the device of the queries.

        Where inputs decide the tiles, kernels find them on the GPU without waiting for it, and look at some pair by
        pair that need it not; with `refine` they are exact, and found on the host.
        With `tune`, kernels measure a few choices of tiles on the GPU of the first call, and keep the fastest on disk.
        """
        from maskdsl.runtime.compile import compile_mask  # imports torch: start-up time

        return compile_mask(self.ir, backend=backend, refine=refine, tune=tune)

    def __call__(self, *tensors: object, **inputs: object) -> NoReturn:
        """Nothing: what computes is made by `compile`. Raises `AttnError`."""
        raise AttnError(NotCompiled(kind="mask", compiled="mask.compile()"))

    def _decided(self, given: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.generic]]:
        """The same, where they decide what attends. Raises if they lead a pair that attends out of a table."""
        arrays = self._arrays(given)
        input_arrays(self.ir, arrays, ())
        check_reads(self.ir, arrays, batch_entries(self.ir, arrays))
        return arrays

    def _arrays(self, given: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.generic]]:
        """The inputs as arrays, with what is found in `q` and `k` among them."""
        return find_in_mask(self.ir, arrays_of(given))

    def _shown_(self) -> tuple[object, ...]:
        return (self.ir,)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.ir.parameters)
        return f"Mask({self.name}({values}), heads={self.heads}, {self.query_length} x {self.key_length})"


def parameter_texts(declaration: PatternDeclaration | StackDeclaration) -> dict[str, str | None]:
    return {
        parameter.name.id: None if parameter.default is None else parameter.default.span.text
        for parameter in declaration.parameters
    }


def arrays_of(inputs: Mapping[str, ArrayLike]) -> dict[str, NDArray[np.generic]]:
    return {name: np.asarray(value) for name, value in inputs.items()}
